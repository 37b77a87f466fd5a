import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import net.spy.memcached.CASResponse;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.MemcachedClient;
import net.spy.memcached.internal.OperationFuture;

/** spymemcached: one connection for all threads, everything asynchronous below. Option: {@code binary}. */
final class SpymemcachedParts {
    static final Map<String, Story.Part> PARTS = Map.of(
            "data", SpymemcachedParts::data,
            "many", SpymemcachedParts::many,
            "cas", SpymemcachedParts::cas,
            "failover", story -> {
                MemcachedClient client = connect(story);
                story.goOn((key, value) -> write(client, key, value), key -> (String) client.get(key));
            },
            "restart", story -> {
                MemcachedClient client = connect(story);
                story.comeBack((key, value) -> write(client, key, value), key -> (String) client.get(key));
            });

    private SpymemcachedParts() {}

    private static MemcachedClient connect(Story story) throws Exception {
        System.setProperty("net.spy.log.LoggerImpl", "net.spy.memcached.compat.log.SLF4JLogger");
        ConnectionFactoryBuilder settings = new ConnectionFactoryBuilder()
                .setMaxReconnectDelay(1); // seconds; half a minute by itself
        if (story.options.contains("binary")) {
            settings.setProtocol(ConnectionFactoryBuilder.Protocol.BINARY);
        }
        return new MemcachedClient(settings.build(), List.of(new InetSocketAddress("127.0.0.1", story.port)));
    }

    private static void write(MemcachedClient client, String key, String value) throws Exception {
        OperationFuture<Boolean> written = client.set(key, 0, value);
        if (!written.get()) {
            throw new IllegalStateException(written.getStatus().getMessage());
        }
    }

    private static void done(Future<Boolean> answer) throws Exception {
        Story.same(answer.get(), true);
    }

    private static void data(Story story) throws Exception {
        MemcachedClient client = connect(story);
        done(client.set(story.key("a"), 1000, new ArrayList<>(List.of("x", 1))));
        Story.same(client.get(story.key("a")), List.of("x", 1));
        Story.same(client.add(story.key("a"), 0, "other").get(), false);
        done(client.add(story.key("b"), 0, "x"));
        done(client.replace(story.key("b"), 0, "v"));
        done(client.append(story.key("b"), "c"));
        done(client.prepend(story.key("b"), "a"));
        Story.same(client.get(story.key("b")), "avc");
        done(client.set(story.key("n"), 0, "10"));
        Story.same(client.incr(story.key("n"), 5), 15L);
        Story.same(client.decr(story.key("n"), 20), 0L);
        Story.same(client.incr(story.key("none"), 1), -1L);
        Story.same(client.incr(story.key("begun"), 1, 100, 1000), 100L);
        Story.same(client.incr(story.key("begun"), 1, 100, 1000), 101L);
        done(client.touch(story.key("b"), 1000));
        if (story.options.contains("binary")) {
            Story.same(client.getAndTouch(story.key("b"), 1000).getValue(), "avc");
        }
        done(client.delete(story.key("b")));
        Story.same(client.delete(story.key("b")).get(), false);
        Story.same(client.get(story.key("b")), null);
        done(client.set(story.key("empty"), 0, ""));
        Story.same(client.get(story.key("empty")), "");
        byte[] large = new byte[900_000]; // compressed on its way if it can be, which these cannot
        new java.util.Random(1).nextBytes(large);
        done(client.set(story.key("large"), 0, large));
        Story.yes(Arrays.equals((byte[]) client.get(story.key("large")), large));
        Story.same(client.getVersions().size(), 1);
        Story.yes(client.getStats().values().iterator().next().containsKey("curr_items"));
    }

    private static void many(Story story) throws Exception {
        MemcachedClient client = connect(story);
        Map<String, Object> values = new HashMap<>();
        List<Future<Boolean>> answers = new ArrayList<>();
        for (String name : story.keys(200)) {
            values.put(name, name + "'s");
            answers.add(client.set(name, 0, name + "'s"));
        }
        for (Future<Boolean> answer : answers) {
            done(answer);
        }
        List<String> asked = new ArrayList<>(values.keySet());
        asked.add(story.key("none"));
        Story.same(client.getBulk(asked), values);
        // Gets that are asked at once are put together by the client, and taken apart again.
        List<Future<Object>> found = new ArrayList<>();
        asked.forEach(name -> found.add(client.asyncGet(name)));
        for (int n = 0; n < asked.size(); n++) {
            Story.same(found.get(n).get(), values.get(asked.get(n)));
        }
    }

    private static void cas(Story story) throws Exception {
        MemcachedClient client = connect(story);
        for (String name : story.keys(20)) {
            done(client.set(name, 0, "1"));
            long token = client.gets(name).getCas();
            Story.same(client.cas(name, token, "2"), CASResponse.OK);
            Story.same(client.cas(name, token, "3"), CASResponse.EXISTS);
            Story.same(client.get(name), "2");
        }
        Story.same(client.cas(story.key("none"), 1, "x"), CASResponse.NOT_FOUND);
        Story.same(client.gets(story.key("none")), null);
    }
}
