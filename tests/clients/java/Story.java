import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;

/**
 * What all clients of this directory share: one run of one part. tests/clients/README.md says what all programs have
 * in common.
 */
final class Story {
    /** Requests that must go well after an event before it is answered. */
    private static final int ROUND = 20;

    /** Keys that are written in turn meanwhile. */
    private static final int KEYS = 200;

    /** That use a client at once meanwhile. */
    private static final int THREADS = 4;

    final int port;
    final List<String> options;
    private final String prefix;
    private final BlockingQueue<String> lines = new LinkedBlockingQueue<>();

    /** One part of a client. */
    interface Part {
        void run(Story story) throws Exception;
    }

    /** Writes a value, and throws if that was not acknowledged. */
    interface Write {
        void write(String key, String value) throws Exception;
    }

    /** Reads one; null if there is none. */
    interface Read {
        String read(String key) throws Exception;
    }

    Story(int port, String prefix, List<String> options) {
        this.port = port;
        this.prefix = prefix;
        this.options = options;
    }

    /** A key of this run's own. */
    String key(Object name) {
        return prefix + ":" + name;
    }

    /** The same, on one shard with all others of its kind. */
    String tagged(Object name) {
        return "{" + prefix + "}:" + name;
    }

    String[] keys(int count) {
        return IntStream.range(0, count).mapToObj(this::key).toArray(String[]::new);
    }

    private void begin() {
        Thread listener = new Thread(() -> {
            try (BufferedReader input = new BufferedReader(new InputStreamReader(System.in))) {
                for (String line = input.readLine(); line != null; line = input.readLine()) {
                    lines.add(line.strip());
                }
            } catch (IOException ended) {
                // The same as its end.
            }
            lines.add("end");
        });
        listener.setDaemon(true);
        listener.start();
        System.out.println("going");
    }

    /**
     * Several threads write one value after another until "end"; none may fail, and all must be there then. The
     * client is theirs together, whatever it does below: one connection for all, or a pool.
     */
    void goOn(Write write, Read read) throws Exception {
        AtomicBoolean ended = new AtomicBoolean();
        CompletableFuture<Void> others = new CompletableFuture<>();
        List<Thread> threads = new ArrayList<>();
        for (int n = 1; n < THREADS; n++) {
            Writer writer = new Writer("thread" + n + ":", write, read);
            Thread thread = new Thread(() -> {
                try {
                    while (!ended.get()) {
                        writer.step();
                    }
                    writer.check();
                } catch (Exception failure) {
                    others.completeExceptionally(failure);
                }
            });
            threads.add(thread);
            thread.start();
        }
        Writer writer = new Writer("", write, read);
        writer.round();
        begin();
        for (String line = lines.poll(); !"end".equals(line); line = lines.poll()) {
            writer.step();
            if (line != null) {
                writer.round();
                System.out.println("after " + line);
            }
        }
        writer.check();
        ended.set(true);
        for (Thread thread : threads) {
            thread.join();
        }
        others.complete(null);
        others.get();
    }

    /** Writes values one after another, and knows what it wrote. */
    private final class Writer {
        private final String name;
        private final Write write;
        private final Read read;
        private final Map<String, String> written = new HashMap<>();
        private int number;

        Writer(String name, Write write, Read read) {
            this.name = name;
            this.write = write;
            this.read = read;
        }

        void step() throws Exception {
            String key = key(name + number % KEYS);
            write.write(key, String.valueOf(number));
            written.put(key, String.valueOf(number));
            String other = key(name + number * 7L % KEYS);
            same(read.read(other), written.get(other));
            number++;
        }

        void round() throws Exception {
            for (int n = 0; n < ROUND; n++) {
                step();
            }
        }

        void check() throws Exception {
            for (Map.Entry<String, String> entry : written.entrySet()) {
                same(read.read(entry.getKey()), entry.getValue());
            }
        }
    }

    /** The proxy is replaced meanwhile: requests may fail until then, and none may afterwards. */
    void comeBack(Write write, Read read) throws Exception {
        write.write(key("first"), "1");
        begin();
        int number = 0;
        for (String line = lines.poll(); !"end".equals(line); line = lines.poll()) {
            try {
                write.write(key(number++ % KEYS), "1");
            } catch (Exception failed) {
                Thread.sleep(20);
            }
            if (line != null) {
                eventually(() -> {
                    write.write(key("back"), "1");
                    return true;
                });
                for (int n = 0; n < ROUND; n++) {
                    write.write(key("back" + n), String.valueOf(n));
                    same(read.read(key("back" + n)), String.valueOf(n));
                }
                System.out.println("after " + line);
            }
        }
        same(read.read(key("first")), "1");
    }

    /** Waits until the condition holds; an exception is a no. */
    static void eventually(Callable<Boolean> condition) throws Exception {
        long limit = System.nanoTime() + 20_000_000_000L;
        Exception failure = new AssertionException("not within 20 s");
        while (System.nanoTime() < limit) {
            try {
                if (condition.call()) {
                    return;
                }
            } catch (Exception failed) {
                failure = failed;
            }
            Thread.sleep(10);
        }
        throw failure;
    }

    /** What one of several threads does. */
    interface Work {
        void run(int thread) throws Exception;
    }

    /** Does it in so many threads at once; what fails in one fails here. */
    static void together(int threads, Work work) throws Exception {
        ExecutorService service = Executors.newFixedThreadPool(threads);
        List<Future<?>> running = new ArrayList<>();
        for (int n = 0; n < threads; n++) {
            int thread = n;
            running.add(service.submit(() -> {
                work.run(thread);
                return null;
            }));
        }
        for (Future<?> one : running) {
            one.get();
        }
        service.shutdown();
    }

    /** Compares what was found with what must be. */
    static void same(Object found, Object wanted) {
        if (!Objects.deepEquals(found, wanted)) {
            throw new AssertionException("found " + show(found) + ", not " + show(wanted));
        }
    }

    static void yes(boolean condition) {
        same(condition, true);
    }

    /** It must throw that, with these words in its text or in that of a cause. */
    static void fails(Class<? extends Exception> kind, String words, Callable<?> action) {
        Object found;
        try {
            found = action.call();
        } catch (Exception thrown) {
            found = thrown;
            for (Throwable one = thrown; one != null; one = one.getCause()) {
                if (kind.isInstance(one) && String.valueOf(one.getMessage()).contains(words)) {
                    return;
                }
            }
        }
        throw new AssertionException(show(found) + " is no " + kind.getSimpleName() + " that says " + words);
    }

    private static String show(Object value) {
        return value instanceof Object[] array ? List.of(array).toString() : String.valueOf(value);
    }

    /** Something was not as it must be. */
    static final class AssertionException extends RuntimeException {
        private static final long serialVersionUID = 1;

        AssertionException(String words) {
            super(words);
        }
    }
}
