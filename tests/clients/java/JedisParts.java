import static java.util.Map.entry;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import redis.clients.jedis.AbstractPipeline;
import redis.clients.jedis.AbstractTransaction;
import redis.clients.jedis.ConnectionPoolConfig;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.RedisClient;
import redis.clients.jedis.RedisClusterClient;
import redis.clients.jedis.Response;
import redis.clients.jedis.StreamEntryID;
import redis.clients.jedis.exceptions.JedisDataException;
import redis.clients.jedis.params.SetParams;
import redis.clients.jedis.params.XReadGroupParams;
import redis.clients.jedis.params.XReadParams;
import redis.clients.jedis.resps.Tuple;

/** Jedis: its pooled client throughout, and a single connection where the state of one is meant. */
final class JedisParts {
    static final Map<String, Story.Part> PARTS = Map.ofEntries(
            entry("connect", JedisParts::connects),
            entry("data", JedisParts::data),
            entry("pipeline", JedisParts::pipeline),
            entry("transaction", JedisParts::transaction),
            entry("watch", JedisParts::watch),
            entry("transaction_over_shards", JedisParts::transactionOverShards),
            entry("pubsub", JedisParts::pubsub),
            entry("blocking", JedisParts::blocking),
            entry("scan", JedisParts::scan),
            entry("keyspace", JedisParts::keyspace),
            entry("scripts", JedisParts::scripts),
            entry("script_cache", JedisParts::scriptCache),
            entry("script_without_keys", story -> Story.same(connect(story).eval("return 7"), 7L)),
            entry("streams", JedisParts::streams),
            entry("databases", JedisParts::databases),
            entry("pool", JedisParts::pool),
            entry("cluster", JedisParts::cluster),
            entry("failover", story -> {
                RedisClient client = connect(story);
                story.goOn(client::set, client::get);
            }),
            entry("restart", story -> {
                RedisClient client = connect(story);
                story.comeBack(client::set, client::get);
            }));

    private static final String ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

    private JedisParts() {}

    private static DefaultJedisClientConfig.Builder settings(Story story) {
        DefaultJedisClientConfig.Builder settings = DefaultJedisClientConfig.builder();
        return story.options.contains("resp3") ? settings.resp3() : story.options.contains("resp2") ? settings.resp2() : settings;
    }

    private static RedisClient connect(Story story) {
        return connect(story, settings(story));
    }

    private static RedisClient connect(Story story, DefaultJedisClientConfig.Builder settings) {
        return RedisClient.builder().hostAndPort("127.0.0.1", story.port).clientConfig(settings.build()).build();
    }

    private static Jedis single(Story story, DefaultJedisClientConfig.Builder settings) {
        return new Jedis(new HostAndPort("127.0.0.1", story.port), settings.build());
    }

    private static void connects(Story story) {
        try (Jedis one = single(story, settings(story).clientName("story"))) {
            Story.same(one.ping(), "PONG");
            Story.same(one.clientGetname(), "story");
            Story.same(one.echo("hello"), "hello");
            Story.yes(one.info().contains("redis_version:"));
            Story.same(one.select(0), "OK");
        }
        Story.same(connect(story).ping(), "PONG");
    }

    /** To this client the proxy is one node with all slots. */
    private static void cluster(Story story) {
        try (RedisClusterClient client = RedisClusterClient.create(new HostAndPort("127.0.0.1", story.port))) {
            for (String name : story.keys(100)) {
                Story.same(client.set(name, name), "OK");
                Story.same(client.get(name), name);
            }
            Story.same(client.eval(ADD, List.of(story.key("n")), List.of("5")), 5L);
        }
    }

    private static void data(Story story) {
        RedisClient client = connect(story);
        byte[] key = story.key("a").getBytes(StandardCharsets.UTF_8);
        byte[] value = {0, 13, 10, -1};
        Story.same(client.set(key, value, SetParams.setParams().ex(1000)), "OK");
        Story.same(client.get(key), value);
        Story.yes(client.ttl(story.key("a")) > 900);
        Story.same(client.hset(story.key("h"), Map.of("f", "1", "g", "two")), 2L);
        Story.same(client.hgetAll(story.key("h")), Map.of("f", "1", "g", "two"));
        Story.same(client.rpush(story.key("l"), "1", "2", "3"), 3L);
        Story.same(client.lrange(story.key("l"), 0, -1), List.of("1", "2", "3"));
        Story.same(client.sadd(story.key("s"), "x", "y"), 2L);
        Story.same(client.smembers(story.key("s")), Set.of("x", "y"));
        Story.yes(client.sismember(story.key("s"), "x"));
        Story.same(client.zadd(story.key("z"), Map.of("one", 1.0, "two", 2.5)), 2L);
        Story.same(client.zrangeWithScores(story.key("z"), 0, -1), List.of(new Tuple("one", 1.0), new Tuple("two", 2.5)));
        Story.same(client.zscore(story.key("z"), "two"), 2.5);
        Story.same(client.incrByFloat(story.key("float"), 1.5), 1.5);
        String[] names = story.keys(100);
        List<String> pairs = new ArrayList<>();
        for (String name : names) {
            pairs.addAll(List.of(name, name));
        }
        Story.same(client.mset(pairs.toArray(String[]::new)), "OK");
        Story.same(client.mget(names), List.of(names));
        Story.same(client.get(story.key("none")), null);
        Story.fails(JedisDataException.class, "WRONGTYPE", () -> client.incr(story.key("h")));
        Story.same(client.exists(names), 100L);
        Story.same(client.del(names), 100L);
    }

    private static void pipeline(Story story) {
        try (AbstractPipeline pipe = connect(story).pipelined()) {
            List<Response<Long>> answers = new ArrayList<>();
            for (String name : story.keys(100)) {
                pipe.set(name, "5");
                answers.add(pipe.incr(name));
            }
            Response<Long> wrong = pipe.lpush(story.key(1), "x");
            Response<String> right = pipe.get(story.key(1));
            pipe.sync();
            answers.forEach(answer -> Story.same(answer.get(), 6L));
            Story.fails(JedisDataException.class, "WRONGTYPE", wrong::get);
            Story.same(right.get(), "6");
        }
    }

    private static void transaction(Story story) {
        RedisClient client = connect(story);
        String key = story.tagged("a");
        try (AbstractTransaction multi = client.multi()) {
            multi.set(key, "1");
            multi.incr(key);
            multi.get(story.tagged("none"));
            List<Object> answers = multi.exec();
            Story.same(answers.get(0), "OK");
            Story.same(answers.get(1), 2L);
            Story.same(answers.get(2), null);
        }
        try (AbstractTransaction multi = client.multi()) {
            multi.set(key, "x");
            Response<Long> wrong = multi.incr(key);
            multi.exec();
            Story.fails(JedisDataException.class, "not an integer", wrong::get);
        }
        try (AbstractTransaction multi = client.multi()) {
            multi.set(key, "y");
            Story.same(multi.discard(), "OK");
        }
        Story.same(client.get(key), "x");
    }

    private static void watch(Story story) {
        RedisClient client = connect(story);
        String key = story.tagged("n");
        for (int turn = 0; turn < 2; turn++) {
            try (AbstractTransaction multi = client.transaction(false)) {
                Story.same(multi.watch(key), "OK");
                if (turn == 0) {
                    client.set(key, "5");
                }
                multi.multi();
                multi.incr(key);
                Story.same(multi.exec(), turn == 0 ? null : List.of(6L));
            }
        }
    }

    private static void transactionOverShards(Story story) {
        try (AbstractTransaction multi = connect(story).multi()) {
            for (String name : story.keys(100)) {
                multi.incr(name);
            }
            List<Object> answers = multi.exec();
            Story.same(answers.size(), 100);
            answers.forEach(answer -> Story.same(answer, 1L));
        }
    }

    /** What a subscriber hears; `subscribe` keeps a thread until the last channel is left. */
    private static final class Listener extends JedisPubSub {
        final ConcurrentLinkedQueue<String> heard = new ConcurrentLinkedQueue<>();
        volatile int channels;

        @Override
        public void onMessage(String channel, String message) {
            heard.add(channel + " " + message);
        }

        @Override
        public void onPMessage(String pattern, String channel, String message) {
            heard.add(pattern + " " + channel + " " + message);
        }

        @Override
        public void onSubscribe(String channel, int count) {
            channels = count;
        }

        @Override
        public void onPSubscribe(String pattern, int count) {
            channels = count;
        }

        @Override
        public void onUnsubscribe(String channel, int count) {
            channels = count;
        }
    }

    private static void pubsub(Story story) throws Exception {
        RedisClient client = connect(story);
        Listener listener = new Listener();
        String[] channels = story.keys(10);
        CompletableFuture<Void> listening = CompletableFuture.runAsync(() -> client.subscribe(listener, channels));
        Story.eventually(() -> listener.channels == 10);
        listener.psubscribe(story.key("*9"));
        Story.eventually(() -> listener.channels == 11);
        for (int n = 0; n < 10; n++) {
            Story.same(client.publish(channels[n], "message" + n), n == 9 ? 2L : 1L);
        }
        Story.eventually(() -> listener.heard.size() == 11);
        Story.same(new HashSet<>(listener.heard).size(), 11);
        listener.unsubscribe(channels[0]);
        Story.eventually(() -> listener.channels == 10);
        Story.same(client.publish(channels[0], "x"), 0L);
        listener.unsubscribe();
        listener.punsubscribe();
        listening.get(20, TimeUnit.SECONDS);
        Story.same(client.publish(channels[1], "x"), 0L);
    }

    private static void blocking(Story story) throws Exception {
        RedisClient client = connect(story);
        Story.same(client.blpop(0.1, story.tagged("q")), null);
        CompletableFuture<List<String>> popped =
                CompletableFuture.supplyAsync(() -> client.blpop(20, story.tagged("none"), story.tagged("q")));
        Thread.sleep(100);
        client.rpush(story.tagged("q"), "later");
        Story.same(popped.get(20, TimeUnit.SECONDS), List.of(story.tagged("q"), "later"));
        client.zadd(story.tagged("z"), 1.5, "m");
        Story.same(client.bzpopmin(1, story.tagged("z")).getValue(), new Tuple("m", 1.5));
        XReadParams wait = XReadParams.xReadParams().block(10_000);
        var read = CompletableFuture.supplyAsync(
                () -> client.xread(wait, Map.of(story.tagged("x"), StreamEntryID.XREAD_NEW_ENTRY)));
        while (!read.isDone()) { // what is added before it waits is none of its business
            client.xadd(story.tagged("x"), StreamEntryID.NEW_ENTRY, Map.of("f", "v"));
            Thread.sleep(20);
        }
        Story.same(read.get(20, TimeUnit.SECONDS).get(0).getValue().get(0).getFields(), Map.of("f", "v"));
    }

    private static void scan(Story story) {
        RedisClient client = connect(story);
        Set<String> names = Set.of(story.keys(500));
        names.forEach(name -> client.set(name, "v"));
        Story.same(client.scanIteration(20, story.key("*")).collect(new HashSet<>()), names);
    }

    private static void keyspace(Story story) {
        RedisClient client = connect(story);
        for (String name : story.keys(50)) {
            client.set(name, "v");
        }
        Story.same(client.keys(story.key("*")).size(), 50);
        Story.yes(client.dbSize() >= 50);
        Story.same(client.flushDB(), "OK");
        Story.same(client.dbSize(), 0L);
    }

    private static void scripts(Story story) {
        RedisClient client = connect(story);
        Story.same(client.eval(ADD, 1, story.key("n"), "5"), 5L);
        Story.same(client.eval("return {KEYS[1], ARGV[1], 7}", List.of(story.key("n")), List.of("v")), List.of(story.key("n"), "v", 7L));
    }

    private static void scriptCache(Story story) {
        RedisClient client = connect(story);
        String digest = client.scriptLoad(ADD);
        Story.same(client.scriptExists(List.of(digest)), List.of(true));
        for (String name : story.keys(40)) {
            Story.same(client.evalsha(digest, 1, name, "3"), 3L);
        }
        Story.fails(JedisDataException.class, "NOSCRIPT", () -> client.evalsha("0".repeat(40), 1, story.key(1), "1"));
    }

    private static void streams(Story story) {
        RedisClient client = connect(story);
        String key = story.key("x");
        StreamEntryID id = client.xadd(key, StreamEntryID.NEW_ENTRY, Map.of("f", "v"));
        Story.same(client.xgroupCreate(key, "g", new StreamEntryID(0), false), "OK");
        var read = client.xreadGroup("g", "one", XReadGroupParams.xReadGroupParams().count(5), new LinkedHashMap<>(Map.of(key, StreamEntryID.XREADGROUP_UNDELIVERED_ENTRY)));
        Story.same(read.get(0).getValue().get(0).getID(), id);
        Story.same(client.xpending(key, "g").getTotal(), 1L);
        Story.same(client.xack(key, "g", id), 1L);
    }

    private static void databases(Story story) {
        RedisClient client = connect(story);
        RedisClient other = connect(story, settings(story).database(3));
        client.set(story.key("a"), "in 0");
        Story.same(other.get(story.key("a")), null);
        other.set(story.key("a"), "in 3");
        Story.same(client.get(story.key("a")), "in 0");
        Story.same(other.get(story.key("a")), "in 3");
    }

    /** Transactions of several threads, each on a connection of the pool. */
    private static void pool(Story story) throws Exception {
        ConnectionPoolConfig settings = new ConnectionPoolConfig();
        settings.setMaxTotal(4);
        try (RedisClient client = RedisClient.builder().hostAndPort("127.0.0.1", story.port).poolConfig(settings).build()) {
            Story.together(8, thread -> {
                for (int n = 0; n < 20; n++) {
                    try (AbstractTransaction multi = client.multi()) {
                        multi.incr(story.tagged("n"));
                        multi.incr(story.tagged(thread));
                        Story.same(multi.exec().size(), 2);
                    }
                }
            });
            Story.same(client.get(story.tagged("n")), "160");
        }
    }
}
