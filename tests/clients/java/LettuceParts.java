import static java.util.Map.entry;

import io.lettuce.core.ClientOptions;
import io.lettuce.core.Consumer;
import io.lettuce.core.KeyScanCursor;
import io.lettuce.core.KeyValue;
import io.lettuce.core.LettuceFutures;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.RedisNoScriptException;
import io.lettuce.core.RedisURI;
import io.lettuce.core.ScanArgs;
import io.lettuce.core.ScanIterator;
import io.lettuce.core.ScoredValue;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.SetArgs;
import io.lettuce.core.StreamMessage;
import io.lettuce.core.TransactionResult;
import io.lettuce.core.XReadArgs;
import io.lettuce.core.XReadArgs.StreamOffset;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.async.RedisAsyncCommands;
import io.lettuce.core.api.sync.RedisCommands;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.api.sync.RedisAdvancedClusterCommands;
import io.lettuce.core.protocol.ProtocolVersion;
import io.lettuce.core.pubsub.RedisPubSubAdapter;
import io.lettuce.core.pubsub.StatefulRedisPubSubConnection;
import io.lettuce.core.support.ConnectionPoolSupport;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import org.apache.commons.pool2.impl.GenericObjectPool;
import org.apache.commons.pool2.impl.GenericObjectPoolConfig;

/** Lettuce: one connection for all threads, as it is meant to be used, and its pool. Speaks RESP3 by itself. */
final class LettuceParts {
    static final Map<String, Story.Part> PARTS = Map.ofEntries(
            entry("connect", LettuceParts::connects),
            entry("data", LettuceParts::data),
            entry("pipeline", LettuceParts::pipeline),
            entry("transaction", LettuceParts::transaction),
            entry("watch", LettuceParts::watch),
            entry("transaction_over_shards", LettuceParts::transactionOverShards),
            entry("pubsub", LettuceParts::pubsub),
            entry("blocking", LettuceParts::blocking),
            entry("scan", LettuceParts::scan),
            entry("keyspace", LettuceParts::keyspace),
            entry("scripts", LettuceParts::scripts),
            entry("script_cache", LettuceParts::scriptCache),
            entry("script_without_keys", story -> Story.same(commands(story).eval("return 7", ScriptOutputType.INTEGER), 7L)),
            entry("streams", LettuceParts::streams),
            entry("databases", LettuceParts::databases),
            entry("pool", LettuceParts::pool),
            entry("cluster", LettuceParts::cluster),
            entry("failover", story -> {
                RedisCommands<String, String> client = commands(story);
                story.goOn(client::set, client::get);
            }),
            entry("restart", story -> {
                RedisCommands<String, String> client = commands(story);
                story.comeBack(client::set, client::get);
            }));

    private static final String ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

    private LettuceParts() {}

    private static RedisURI.Builder place(Story story) {
        return RedisURI.builder().withHost("127.0.0.1").withPort(story.port);
    }

    private static RedisClient client(Story story, RedisURI place) {
        RedisClient client = RedisClient.create(place);
        if (story.options.contains("resp2")) {
            client.setOptions(ClientOptions.builder().protocolVersion(ProtocolVersion.RESP2).build());
        }
        return client;
    }

    private static StatefulRedisConnection<String, String> connect(Story story) {
        return client(story, place(story).build()).connect();
    }

    private static RedisCommands<String, String> commands(Story story) {
        return connect(story).sync();
    }

    private static void connects(Story story) {
        RedisCommands<String, String> client = client(story, place(story).withClientName("story").build()).connect().sync();
        Story.same(client.ping(), "PONG");
        Story.same(client.clientGetname(), "story");
        Story.same(client.echo("hello"), "hello");
        Story.yes(client.info().contains("redis_version:"));
        Story.same(client.select(0), "OK");
    }

    /** To this client the proxy is one node with all slots. */
    private static void cluster(Story story) {
        RedisAdvancedClusterCommands<String, String> client = RedisClusterClient.create(place(story).build()).connect().sync();
        for (String name : story.keys(100)) {
            Story.same(client.set(name, name), "OK");
            Story.same(client.get(name), name);
        }
        Story.same(client.mget(story.keys(100)).size(), 100);
        Story.same(client.eval(ADD, ScriptOutputType.INTEGER, new String[] {story.key("n")}, "5"), 5L);
    }

    private static void data(Story story) {
        RedisCommands<String, String> client = commands(story);
        Story.same(client.set(story.key("a"), "grüße\r\n", SetArgs.Builder.ex(1000)), "OK");
        Story.same(client.get(story.key("a")), "grüße\r\n");
        Story.yes(client.ttl(story.key("a")) > 900);
        Story.same(client.hset(story.key("h"), Map.of("f", "1", "g", "two")), 2L);
        Story.same(client.hgetall(story.key("h")), Map.of("f", "1", "g", "two"));
        Story.same(client.rpush(story.key("l"), "1", "2", "3"), 3L);
        Story.same(client.lrange(story.key("l"), 0, -1), List.of("1", "2", "3"));
        Story.same(client.sadd(story.key("s"), "x", "y"), 2L);
        Story.same(client.smembers(story.key("s")), Set.of("x", "y"));
        Story.yes(client.sismember(story.key("s"), "x"));
        Story.same(client.zadd(story.key("z"), ScoredValue.just(1, "one"), ScoredValue.just(2.5, "two")), 2L);
        Story.same(client.zrangeWithScores(story.key("z"), 0, -1), List.of(ScoredValue.just(1, "one"), ScoredValue.just(2.5, "two")));
        Story.same(client.zscore(story.key("z"), "two"), 2.5);
        Map<String, String> pairs = new HashMap<>();
        for (String name : story.keys(100)) {
            pairs.put(name, name);
        }
        Story.same(client.mset(pairs), "OK");
        List<KeyValue<String, String>> found = client.mget(story.keys(101));
        found.subList(0, 100).forEach(one -> Story.same(one.getValue(), one.getKey()));
        Story.yes(!found.get(100).hasValue());
        Story.fails(RedisCommandExecutionException.class, "WRONGTYPE", () -> client.incr(story.key("h")));
        Story.same(client.del(story.keys(100)), 100L);
    }

    /** Nothing is flushed before all is written. */
    private static void pipeline(Story story) throws Exception {
        StatefulRedisConnection<String, String> connection = connect(story);
        RedisAsyncCommands<String, String> pipe = connection.async();
        connection.setAutoFlushCommands(false);
        List<RedisFuture<Long>> answers = new ArrayList<>();
        for (String name : story.keys(100)) {
            pipe.set(name, "5");
            answers.add(pipe.incr(name));
        }
        RedisFuture<Long> wrong = pipe.lpush(story.key(1), "x");
        connection.flushCommands();
        Story.yes(LettuceFutures.awaitAll(Duration.ofSeconds(20), answers.toArray(RedisFuture[]::new)));
        for (RedisFuture<Long> answer : answers) {
            Story.same(answer.get(), 6L);
        }
        Story.fails(RedisCommandExecutionException.class, "WRONGTYPE", () -> wrong.get(20, TimeUnit.SECONDS));
    }

    private static void transaction(Story story) {
        RedisCommands<String, String> client = commands(story);
        String key = story.tagged("a");
        client.multi();
        client.set(key, "1");
        client.incr(key);
        client.get(story.tagged("none"));
        TransactionResult answers = client.exec();
        Story.same(answers.get(0), "OK");
        Story.same(answers.get(1), 2L);
        Story.same(answers.get(2), null);
        client.multi();
        client.set(key, "x");
        client.incr(key);
        Story.yes(client.exec().get(1).toString().contains("not an integer"));
        client.multi();
        client.set(key, "y");
        Story.same(client.discard(), "OK");
        Story.same(client.get(key), "x");
    }

    private static void watch(Story story) {
        RedisCommands<String, String> client = commands(story);
        RedisCommands<String, String> other = commands(story);
        String key = story.tagged("n");
        client.watch(key);
        other.set(key, "5");
        client.multi();
        client.set(key, "1");
        Story.yes(client.exec().wasDiscarded());
        client.watch(key);
        client.multi();
        client.incr(key);
        Story.same(client.exec().get(0), 6L);
    }

    private static void transactionOverShards(Story story) {
        RedisCommands<String, String> client = commands(story);
        client.multi();
        for (String name : story.keys(100)) {
            client.incr(name);
        }
        TransactionResult answers = client.exec();
        Story.same(answers.size(), 100);
        answers.forEach(answer -> Story.same(answer, 1L));
    }

    private static void pubsub(Story story) throws Exception {
        RedisCommands<String, String> client = commands(story);
        StatefulRedisPubSubConnection<String, String> listener = client(story, place(story).build()).connectPubSub();
        ConcurrentLinkedQueue<String> heard = new ConcurrentLinkedQueue<>();
        listener.addListener(new RedisPubSubAdapter<>() {
            @Override
            public void message(String channel, String message) {
                heard.add(channel + " " + message);
            }

            @Override
            public void message(String pattern, String channel, String message) {
                heard.add(pattern + " " + channel + " " + message);
            }
        });
        String[] channels = story.keys(10);
        listener.sync().subscribe(channels);
        listener.sync().psubscribe(story.key("*9"));
        for (int n = 0; n < 10; n++) {
            Story.same(client.publish(channels[n], "message" + n), n == 9 ? 2L : 1L);
        }
        Story.eventually(() -> heard.size() == 11);
        Story.same(new HashSet<>(heard).size(), 11);
        listener.sync().unsubscribe(channels[0]);
        Story.same(client.publish(channels[0], "x"), 0L);
        if (!story.options.contains("resp2")) { // commands between the messages, as RESP3 allows
            Story.same(listener.sync().set(story.key("a"), "v"), "OK");
            Story.same(listener.sync().get(story.key("a")), "v");
        }
        listener.sync().unsubscribe();
        listener.sync().punsubscribe();
        Story.same(client.publish(channels[1], "x"), 0L);
    }

    private static void blocking(Story story) throws Exception {
        RedisCommands<String, String> other = commands(story);
        RedisAsyncCommands<String, String> client = connect(story).async();
        Story.same(client.blpop(0.1, story.tagged("q")).get(20, TimeUnit.SECONDS), null);
        var popped = client.blpop(20, story.tagged("none"), story.tagged("q"));
        Thread.sleep(100);
        other.rpush(story.tagged("q"), "later");
        Story.same(popped.get(20, TimeUnit.SECONDS), KeyValue.just(story.tagged("q"), "later"));
        var least = client.bzpopmin(20, story.tagged("z"));
        other.zadd(story.tagged("z"), 1.5, "m");
        Story.same(least.get(20, TimeUnit.SECONDS).getValue(), ScoredValue.just(1.5, "m"));
        var read = client.xread(XReadArgs.Builder.block(20_000), StreamOffset.latest(story.tagged("x")));
        while (!read.isDone()) { // what is added before it waits is none of its business
            other.xadd(story.tagged("x"), "f", "v");
            Thread.sleep(20);
        }
        Story.same(read.get(20, TimeUnit.SECONDS).get(0).getBody(), Map.of("f", "v"));
    }

    private static void scan(Story story) {
        RedisCommands<String, String> client = commands(story);
        Set<String> names = Set.of(story.keys(500));
        names.forEach(name -> client.set(name, "v"));
        Set<String> found = new HashSet<>();
        ScanIterator.scan(client, ScanArgs.Builder.limit(20).match(story.key("*"))).forEachRemaining(found::add);
        Story.same(found, names);
        found.clear();
        KeyScanCursor<String> some = client.scan(ScanArgs.Builder.limit(50).match(story.key("*")));
        for (; !some.isFinished(); some = client.scan(some, ScanArgs.Builder.limit(50).match(story.key("*")))) {
            found.addAll(some.getKeys());
        }
        found.addAll(some.getKeys());
        Story.same(found, names);
    }

    private static void keyspace(Story story) {
        RedisCommands<String, String> client = commands(story);
        for (String name : story.keys(50)) {
            client.set(name, "v");
        }
        Story.same(client.keys(story.key("*")).size(), 50);
        Story.yes(client.dbsize() >= 50);
        Story.same(client.flushdb(), "OK");
        Story.same(client.dbsize(), 0L);
    }

    private static void scripts(Story story) {
        RedisCommands<String, String> client = commands(story);
        Story.same(client.eval(ADD, ScriptOutputType.INTEGER, new String[] {story.key("n")}, "5"), 5L);
        Story.same(client.eval("return {KEYS[1], ARGV[1], 7}", ScriptOutputType.MULTI, new String[] {story.key("n")}, "v"), List.of(story.key("n"), "v", 7L));
    }

    private static void scriptCache(Story story) {
        RedisCommands<String, String> client = commands(story);
        String digest = client.scriptLoad(ADD);
        Story.same(client.scriptExists(digest), List.of(true));
        for (String name : story.keys(40)) {
            Story.same(client.evalsha(digest, ScriptOutputType.INTEGER, new String[] {name}, "3"), 3L);
        }
        Story.fails(RedisNoScriptException.class, "NOSCRIPT", () -> client.evalsha("0".repeat(40), ScriptOutputType.INTEGER, new String[] {story.key(1)}));
    }

    private static void streams(Story story) {
        RedisCommands<String, String> client = commands(story);
        String key = story.key("x");
        String id = client.xadd(key, "f", "v");
        Story.same(client.xgroupCreate(StreamOffset.from(key, "0"), "g"), "OK");
        List<StreamMessage<String, String>> read = client.xreadgroup(Consumer.from("g", "one"), StreamOffset.lastConsumed(key));
        Story.same(read.get(0).getId(), id);
        Story.same(client.xpending(key, "g").getCount(), 1L);
        Story.same(client.xack(key, "g", id), 1L);
    }

    private static void databases(Story story) {
        RedisCommands<String, String> client = commands(story);
        RedisCommands<String, String> other = client(story, place(story).withDatabase(3).build()).connect().sync();
        client.set(story.key("a"), "in 0");
        Story.same(other.get(story.key("a")), null);
        other.set(story.key("a"), "in 3");
        Story.same(client.get(story.key("a")), "in 0");
        Story.same(other.get(story.key("a")), "in 3");
    }

    /** Transactions of several threads, each on a connection of the pool. */
    private static void pool(Story story) throws Exception {
        RedisClient client = client(story, place(story).build());
        GenericObjectPoolConfig<StatefulRedisConnection<String, String>> settings = new GenericObjectPoolConfig<>();
        settings.setMaxTotal(4);
        try (GenericObjectPool<StatefulRedisConnection<String, String>> pool =
                ConnectionPoolSupport.createGenericObjectPool(client::connect, settings)) {
            Story.together(8, thread -> {
                for (int n = 0; n < 20; n++) {
                    try (StatefulRedisConnection<String, String> connection = pool.borrowObject()) {
                        connection.sync().multi();
                        connection.sync().incr(story.tagged("n"));
                        connection.sync().incr(story.tagged(thread));
                        Story.same(connection.sync().exec().size(), 2);
                    }
                }
            });
        }
        Story.same(commands(story).get(story.tagged("n")), "160");
    }
}
