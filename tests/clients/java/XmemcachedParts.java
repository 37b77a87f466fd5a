import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import net.rubyeye.xmemcached.GetsResponse;
import net.rubyeye.xmemcached.MemcachedClient;
import net.rubyeye.xmemcached.XMemcachedClientBuilder;
import net.rubyeye.xmemcached.command.BinaryCommandFactory;
import net.rubyeye.xmemcached.utils.AddrUtil;

/** XMemcached: some connections, whose requests it merges. Option: {@code binary}. */
final class XmemcachedParts {
    static final Map<String, Story.Part> PARTS = Map.of(
            "data", XmemcachedParts::data,
            "many", XmemcachedParts::many,
            "cas", XmemcachedParts::cas,
            "failover", story -> {
                MemcachedClient client = connect(story);
                story.goOn((key, value) -> Story.yes(client.set(key, 0, value)), client::get);
            },
            "restart", story -> {
                MemcachedClient client = connect(story);
                story.comeBack((key, value) -> Story.yes(client.set(key, 0, value)), client::get);
            });

    private XmemcachedParts() {}

    private static MemcachedClient connect(Story story) throws Exception {
        XMemcachedClientBuilder settings = new XMemcachedClientBuilder(AddrUtil.getAddresses("127.0.0.1:" + story.port));
        if (story.options.contains("binary")) {
            settings.setCommandFactory(new BinaryCommandFactory());
        }
        settings.setConnectionPoolSize(2);
        settings.setHealSessionInterval(100); // milliseconds until it connects anew
        return settings.build();
    }

    private static void data(Story story) throws Exception {
        MemcachedClient client = connect(story);
        Story.yes(client.set(story.key("a"), 1000, new ArrayList<>(List.of("x", 1))));
        Story.same(client.get(story.key("a")), List.of("x", 1));
        Story.yes(!client.add(story.key("a"), 0, "other"));
        Story.yes(client.add(story.key("b"), 0, "x"));
        Story.yes(client.replace(story.key("b"), 0, "v"));
        Story.yes(client.append(story.key("b"), "c"));
        Story.yes(client.prepend(story.key("b"), "a"));
        Story.same(client.get(story.key("b")), "avc");
        Story.yes(client.set(story.key("n"), 0, "10"));
        Story.same(client.incr(story.key("n"), 5), 15L);
        Story.same(client.decr(story.key("n"), 20), 0L);
        Story.same(client.incr(story.key("begun"), 1, 100), 100L);
        Story.same(client.incr(story.key("begun"), 1, 100), 101L);
        Story.yes(client.touch(story.key("b"), 1000));
        if (story.options.contains("binary")) { // it has no other way
            Story.same(client.getAndTouch(story.key("b"), 1000), "avc");
        }
        Story.yes(client.delete(story.key("b")));
        Story.yes(!client.delete(story.key("b")));
        Story.same(client.get(story.key("b")), null);
        client.setWithNoReply(story.key("quiet"), 0, "v");
        Story.eventually(() -> "v".equals(client.get(story.key("quiet"))));
        client.deleteWithNoReply(story.key("quiet"));
        Story.eventually(() -> client.get(story.key("quiet")) == null);
        byte[] large = new byte[900_000];
        new java.util.Random(1).nextBytes(large);
        Story.yes(client.set(story.key("large"), 0, large));
        byte[] found = client.get(story.key("large"));
        Story.yes(Arrays.equals(found, large));
        Story.same(client.getVersions().size(), 1);
        Story.yes(client.getStats().values().iterator().next().containsKey("curr_items"));
    }

    private static void many(Story story) throws Exception {
        MemcachedClient client = connect(story);
        Map<String, String> values = new HashMap<>();
        for (String name : story.keys(200)) {
            values.put(name, name + "'s");
            Story.yes(client.set(name, 0, name + "'s"));
        }
        List<String> asked = new ArrayList<>(values.keySet());
        asked.add(story.key("none"));
        Story.same(client.<String>get(asked), values);
        Map<String, GetsResponse<String>> tokens = client.gets(asked);
        Story.same(tokens.keySet(), values.keySet());
        // Gets of several threads at once become one request of many keys, and are taken apart again.
        Story.together(8, thread -> {
            for (String name : story.keys(200)) {
                Story.same(client.get(name), values.get(name));
            }
        });
    }

    private static void cas(Story story) throws Exception {
        MemcachedClient client = connect(story);
        for (String name : story.keys(20)) {
            Story.yes(client.set(name, 0, "1"));
            long token = client.gets(name).getCas();
            Story.yes(client.cas(name, 0, "2", token));
            Story.yes(!client.cas(name, 0, "3", token));
            Story.same(client.get(name), "2");
        }
    }
}
