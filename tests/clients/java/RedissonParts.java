import static java.util.Map.entry;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.redisson.Redisson;
import org.redisson.api.BatchOptions;
import org.redisson.api.RBatch;
import org.redisson.api.RBlockingQueue;
import org.redisson.api.RBucket;
import org.redisson.api.RLock;
import org.redisson.api.RMapCache;
import org.redisson.api.RRateLimiter;
import org.redisson.api.RScoredSortedSet;
import org.redisson.api.RScript;
import org.redisson.api.RSemaphore;
import org.redisson.api.RStream;
import org.redisson.api.RTopic;
import org.redisson.api.RateType;
import org.redisson.api.RedissonClient;
import org.redisson.api.options.KeysScanOptions;
import org.redisson.api.redisnode.RedisNodes;
import org.redisson.api.stream.StreamAddArgs;
import org.redisson.api.stream.StreamCreateGroupArgs;
import org.redisson.api.stream.StreamMessageId;
import org.redisson.api.stream.StreamReadGroupArgs;
import org.redisson.client.RedisException;
import org.redisson.client.codec.StringCodec;
import org.redisson.config.Config;
import org.redisson.config.SingleServerConfig;

/**
 * Redisson: objects that are made of scripts and messages, each of several keys that share the name of the object as
 * their hash tag.
 */
final class RedissonParts {
    static final Map<String, Story.Part> PARTS = Map.ofEntries(
            entry("connect", RedissonParts::connects),
            entry("data", RedissonParts::data),
            entry("pipeline", story -> batch(story, story::key, BatchOptions.ExecutionMode.IN_MEMORY)),
            entry("transaction", story -> batch(story, story::tagged, BatchOptions.ExecutionMode.IN_MEMORY_ATOMIC)),
            entry("transaction_over_shards", story -> batch(story, story::key, BatchOptions.ExecutionMode.IN_MEMORY_ATOMIC)),
            entry("pubsub", RedissonParts::pubsub),
            entry("blocking", RedissonParts::blocking),
            entry("scan", RedissonParts::scan),
            entry("keyspace", RedissonParts::keyspace),
            entry("scripts", RedissonParts::scripts),
            entry("script_cache", RedissonParts::scriptCache),
            entry("streams", RedissonParts::streams),
            entry("databases", RedissonParts::databases),
            entry("lock", RedissonParts::lock),
            entry("objects", RedissonParts::objects),
            entry("failover", story -> {
                RedissonClient client = connect(story);
                story.goOn((key, value) -> bucket(client, key).set(value), key -> bucket(client, key).get());
            }),
            entry("restart", story -> {
                RedissonClient client = connect(story);
                story.comeBack((key, value) -> bucket(client, key).set(value), key -> bucket(client, key).get());
            }));

    private static final String ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

    private RedissonParts() {}

    /** What the options leave open. */
    private interface Change {
        void to(SingleServerConfig config);
    }

    private static RedissonClient connect(Story story) {
        return connect(story, config -> {});
    }

    private static RedissonClient connect(Story story, Change change) {
        Config config = new Config();
        change.to(config.useSingleServer().setAddress("redis://127.0.0.1:" + story.port));
        return Redisson.create(config);
    }

    private static RBucket<String> bucket(RedissonClient client, String key) {
        return client.getBucket(key);
    }

    private static void connects(Story story) {
        RedissonClient client = connect(story, config -> config.setClientName("story"));
        Story.yes(client.getRedisNodes(RedisNodes.SINGLE).pingAll());
        bucket(client, story.key("a")).set("v");
        Story.same(bucket(client, story.key("a")).get(), "v");
    }

    private static void data(Story story) {
        RedissonClient client = connect(story);
        bucket(client, story.key("a")).set("grüße\r\n", Duration.ofSeconds(1000));
        Story.same(bucket(client, story.key("a")).get(), "grüße\r\n");
        Story.yes(bucket(client, story.key("a")).remainTimeToLive() > 900_000);
        client.getMap(story.key("h")).putAll(Map.of("f", 1, "g", "two"));
        Story.same(client.getMap(story.key("h")).readAllMap(), Map.of("f", 1, "g", "two"));
        client.getList(story.key("l")).addAll(List.of(1, 2, 3));
        Story.same(client.getList(story.key("l")).readAll(), List.of(1, 2, 3));
        RScoredSortedSet<String> sorted = client.getScoredSortedSet(story.key("z"));
        Story.same(sorted.addAll(Map.of("one", 1.0, "two", 2.5)), 2);
        Story.same(List.copyOf(sorted.valueRange(0, -1)), List.of("one", "two"));
        Map<String, String> pairs = new HashMap<>();
        for (String name : story.keys(100)) {
            pairs.put(name, name);
        }
        client.getBuckets().set(pairs);
        Story.same(client.getBuckets().get(story.keys(100)), pairs);
        Story.fails(RedisException.class, "WRONGTYPE", () -> client.getAtomicLong(story.key("h")).incrementAndGet());
        Story.same(client.getKeys().delete(story.keys(100)), 100L);
    }

    /** How a part calls its keys. */
    private interface Naming {
        String key(Object name);
    }

    private static void batch(Story story, Naming naming, BatchOptions.ExecutionMode mode) {
        RBatch batch = connect(story).createBatch(BatchOptions.defaults().executionMode(mode));
        List<Object> wanted = new ArrayList<>();
        for (long n = 0; n < 100; n++) {
            batch.getAtomicLong(naming.key(n)).addAndGetAsync(n);
            batch.getAtomicLong(naming.key(n)).incrementAndGetAsync();
            wanted.add(n);
            wanted.add(n + 1);
        }
        Story.same(batch.execute().getResponses(), wanted);
    }

    private static void pubsub(Story story) throws Exception {
        RedissonClient client = connect(story);
        ConcurrentLinkedQueue<String> heard = new ConcurrentLinkedQueue<>();
        String[] channels = story.keys(10);
        List<Integer> listeners = new ArrayList<>();
        for (String channel : channels) {
            listeners.add(client.getTopic(channel).addListener(String.class, (from, message) -> heard.add(from + " " + message)));
        }
        client.getPatternTopic(story.key("*9"))
                .addListener(String.class, (pattern, from, message) -> heard.add(pattern + " " + from + " " + message));
        for (int n = 0; n < 10; n++) {
            Story.yes(client.getTopic(channels[n]).publish("message" + n) >= 1);
        }
        Story.eventually(() -> heard.size() == 11);
        Story.yes(heard.contains(channels[3] + " message3"));
        Story.yes(heard.contains(story.key("*9") + " " + channels[9] + " message9"));
        RTopic first = client.getTopic(channels[0]);
        Story.same(first.countSubscribers(), 1L);
        first.removeListener(listeners.get(0));
        Story.eventually(() -> first.publish("nobody") == 0);
    }

    private static void blocking(Story story) throws Exception {
        RedissonClient client = connect(story);
        RBlockingQueue<String> queue = client.getBlockingQueue(story.key("q"));
        Story.same(queue.poll(1, TimeUnit.SECONDS), null);
        Thread later = new Thread(() -> {
            client.getQueue(story.key("q")).add("later");
            client.getQueue(story.key("q")).add("for ever");
        });
        later.start();
        Story.same(queue.poll(20, TimeUnit.SECONDS), "later");
        Story.same(queue.take(), "for ever");
        later.join();
        queue.add("moved");
        Story.same(client.getBlockingQueue(story.tagged("q")).poll(1, TimeUnit.SECONDS), null);
        Story.same(queue.poll(), "moved");
    }

    private static void scan(Story story) {
        RedissonClient client = connect(story);
        Map<String, String> pairs = new HashMap<>();
        for (String name : story.keys(500)) {
            pairs.put(name, "v");
        }
        client.getBuckets().set(pairs);
        Set<String> found = new HashSet<>();
        client.getKeys().getKeys(KeysScanOptions.defaults().pattern(story.key("*")).chunkSize(20)).forEach(found::add);
        Story.same(found, pairs.keySet());
    }

    private static void keyspace(Story story) {
        RedissonClient client = connect(story);
        for (String name : story.keys(50)) {
            bucket(client, name).set("v");
        }
        Story.yes(client.getKeys().count() >= 50);
        client.getKeys().flushdb();
        Story.same(client.getKeys().count(), 0L);
    }

    private static void scripts(Story story) {
        RScript script = connect(story).getScript(StringCodec.INSTANCE);
        Object found = script.eval(RScript.Mode.READ_WRITE, ADD, RScript.ReturnType.LONG, List.of(story.key("n")), 5);
        Story.same(found, 5L);
        Story.same(script.<Object>eval(RScript.Mode.READ_ONLY, "return 7", RScript.ReturnType.LONG), 7L);
    }

    private static void scriptCache(Story story) {
        RScript script = connect(story).getScript(StringCodec.INSTANCE);
        String digest = script.scriptLoad(ADD);
        Story.same(script.scriptExists(digest), List.of(true));
        for (long n = 0; n < 40; n++) {
            Object found = script.evalSha(RScript.Mode.READ_WRITE, digest, RScript.ReturnType.LONG, List.of(story.key(n)), n);
            Story.same(found, n);
        }
    }

    private static void streams(Story story) {
        RStream<String, String> stream = connect(story).getStream(story.key("x"));
        StreamMessageId id = stream.add(StreamAddArgs.entry("f", "v"));
        stream.createGroup(StreamCreateGroupArgs.name("g").id(StreamMessageId.ALL));
        Map<StreamMessageId, Map<String, String>> wanted = Map.of(id, Map.of("f", "v"));
        Story.same(stream.readGroup("g", "one", StreamReadGroupArgs.neverDelivered().count(5)), wanted);
        Story.same(stream.ack("g", id), 1L);
    }

    private static void databases(Story story) {
        RedissonClient client = connect(story);
        RedissonClient other = connect(story, config -> config.setDatabase(3));
        bucket(client, story.key("a")).set("in 0");
        Story.same(bucket(other, story.key("a")).get(), null);
        bucket(other, story.key("a")).set("in 3");
        Story.same(bucket(client, story.key("a")).get(), "in 0");
    }

    /** Who waits for a lock hears of its release by a message, and the owner's clock prolongs it. */
    private static void lock(Story story) throws Exception {
        RedissonClient client = connect(story);
        String name = story.key("lock");
        RLock mine = client.getLock(name);
        mine.lock();
        Story.yes(mine.isHeldByCurrentThread());
        Story.together(1, thread -> Story.yes(!client.getLock(name).tryLock()));
        mine.lock(); // the same thread may enter again
        mine.unlock();
        Story.yes(mine.isLocked());
        mine.unlock();
        for (String kind : List.of("plain", "fair")) {
            AtomicInteger holders = new AtomicInteger();
            Story.together(4, thread -> {
                RLock lock = kind.equals("fair") ? client.getFairLock(story.key("fair")) : client.getLock(name);
                for (int n = 0; n < 5; n++) {
                    Story.yes(lock.tryLock(30, TimeUnit.SECONDS));
                    Story.same(holders.incrementAndGet(), 1);
                    Thread.sleep(2);
                    holders.decrementAndGet();
                    lock.unlock();
                }
            });
        }
        Story.yes(!mine.isLocked());
    }

    /** What else has several keys, in scripts that name all of them. */
    private static void objects(Story story) throws Exception {
        RedissonClient client = connect(story);
        RMapCache<String, String> cache = client.getMapCache(story.key("cache"));
        cache.put("a", "v", 1000, TimeUnit.SECONDS);
        cache.put("b", "gone", 10, TimeUnit.MILLISECONDS);
        Story.same(cache.get("a"), "v");
        Story.eventually(() -> cache.get("b") == null);
        RSemaphore semaphore = client.getSemaphore(story.key("semaphore"));
        Story.yes(semaphore.trySetPermits(1));
        semaphore.acquire();
        Story.yes(!semaphore.tryAcquire());
        CountDownLatch waits = new CountDownLatch(1);
        Thread releases = new Thread(() -> {
            waits.countDown();
            semaphore.release();
        });
        releases.start();
        waits.await();
        Story.yes(semaphore.tryAcquire(20, TimeUnit.SECONDS));
        RRateLimiter limiter = client.getRateLimiter(story.key("limiter"));
        Story.yes(limiter.trySetRate(RateType.OVERALL, 2, Duration.ofHours(1)));
        Story.same(List.of(limiter.tryAcquire(), limiter.tryAcquire(), limiter.tryAcquire()), List.of(true, true, false));
        Story.same(client.getIdGenerator(story.key("ids")).nextId(), 1L);
        Story.same(client.getCountDownLatch(story.key("latch")).trySetCount(1), true);
        client.getCountDownLatch(story.key("latch")).countDown();
        Story.yes(client.getCountDownLatch(story.key("latch")).await(20, TimeUnit.SECONDS));
    }
}
