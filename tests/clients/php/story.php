<?php

declare(strict_types=1);

/**
 * What all programs of this directory share; tests/clients/README.md says what they have in common.
 */

const ROUND = 20; // requests that must go well after an event before it is answered
const KEYS = 200; // keys that are written in turn meanwhile

final class Story
{
    /** @param list<string> $options */
    public function __construct(
        public readonly int $port,
        private readonly string $prefix,
        private readonly array $options,
    ) {
    }

    public function has(string $option): bool
    {
        return in_array($option, $this->options, true);
    }

    /** A key of this run's own. */
    public function key(string|int $name): string
    {
        return "$this->prefix:$name";
    }

    /** The same, on one shard with all others of its kind. */
    public function tagged(string|int $name): string
    {
        return "{{$this->prefix}}:$name";
    }

    /** @return list<string> */
    public function keys(int $count): array
    {
        return array_map(fn (int $n) => $this->key($n), range(0, $count - 1));
    }

    private function begin(): void
    {
        stream_set_blocking(STDIN, false);
        echo "going\n";
    }

    private function heard(): ?string
    {
        $line = fgets(STDIN);
        return $line === false ? (feof(STDIN) ? 'end' : null) : trim($line);
    }

    /** Writes one value after another until "end"; none may fail, and all must be there then. */
    public function goOn(callable $write, callable $read): void
    {
        $written = [];
        $number = 0;
        $step = function () use (&$written, &$number, $write, $read): void {
            $key = $this->key($number % KEYS);
            $write($key, (string) $number);
            $written[$key] = (string) $number;
            $other = $this->key($number * 7 % KEYS);
            same($read($other), $written[$other] ?? false);
            $number++;
        };
        for ($n = 0; $n < ROUND; $n++) {
            $step();
        }
        $this->begin();
        while (($line = $this->heard()) !== 'end') {
            $step();
            if ($line !== null) {
                for ($n = 0; $n < ROUND; $n++) {
                    $step();
                }
                echo "after $line\n";
            }
        }
        foreach ($written as $key => $value) {
            same($read($key), $value);
        }
    }

    /** The proxy is replaced meanwhile: requests may fail until then, and none may afterwards. */
    public function comeBack(callable $write, callable $read): void
    {
        $write($this->key('first'), '1');
        $this->begin();
        for ($number = 0; ($line = $this->heard()) !== 'end'; $number++) {
            try {
                $write($this->key($number % KEYS), '1');
            } catch (Exception) {
                usleep(20_000);
            }
            if ($line !== null) {
                eventually(fn () => $write($this->key('back'), '1') || true);
                for ($n = 0; $n < ROUND; $n++) {
                    $write($this->key("back$n"), (string) $n);
                    same($read($this->key("back$n")), (string) $n);
                }
                echo "after $line\n";
            }
        }
        same($read($this->key('first')), '1');
    }
}

/** Compares what was found with what must be. */
function same(mixed $found, mixed $wanted): void
{
    if ($found !== $wanted) {
        throw new LogicException('found ' . var_export($found, true) . ', not ' . var_export($wanted, true));
    }
}

function yes(mixed $condition): void
{
    same((bool) $condition, true);
}

/** It must throw that, with these words in its text. */
function fails(string $kind, string $words, callable $action): void
{
    try {
        $found = $action();
    } catch (Exception $thrown) {
        $found = $thrown->getMessage();
        if ($thrown instanceof $kind && str_contains($found, $words)) {
            return;
        }
    }
    throw new LogicException(var_export($found, true) . " is no $kind that says $words");
}

/** Waits until the condition holds; an exception is a no. */
function eventually(callable $condition): void
{
    $limit = microtime(true) + 20;
    $failure = new LogicException('not within 20 s');
    while (microtime(true) < $limit) {
        try {
            if ($condition()) {
                return;
            }
        } catch (Exception $thrown) {
            $failure = $thrown;
        }
        usleep(10_000);
    }
    throw $failure;
}

/** Does that in a process of its own, a tenth of a second from now. */
function later(callable $action): void
{
    if (pcntl_fork() === 0) {
        usleep(100_000);
        $action();
        exit(0);
    }
}

/**
 * What applications do with PHP's own sessions, which the extension keeps on the server.
 *
 * @param array<string, string> $settings
 */
function session(?string $handler, string $place, array $settings): void
{
    foreach ($settings as $name => $value) {
        ini_set($name, $value);
    }
    ini_set('session.use_cookies', '0');
    ini_set('session.cache_limiter', '');
    if ($handler !== null) { // else one that the program has set
        session_module_name($handler);
        session_save_path($place);
    }
    yes(session_start());
    $id = session_id();
    $_SESSION['user'] = ['number' => 7];
    yes(session_write_close());
    $_SESSION = [];
    session_id($id);
    yes(session_start());
    same($_SESSION, ['user' => ['number' => 7]]);
    $_SESSION['more'] = 1;
    yes(session_regenerate_id(true)); // as after each login
    $next = session_id();
    yes(session_write_close());
    session_id($id);
    yes(session_start());
    same($_SESSION, []);
    yes(session_destroy());
    session_id($next);
    yes(session_start());
    same($_SESSION['more'], 1);
    yes(session_destroy());
    session_id($next);
    yes(session_start());
    same($_SESSION, []);
    yes(session_write_close());
}

/**
 * Runs the part that the command line names.
 *
 * @param array<string, callable(Story): void> $parts
 */
function run(array $parts): void
{
    set_error_handler(function (int $level, string $words, string $file, int $line): bool {
        throw new ErrorException($words, 0, $level, $file, $line);
    });
    [, $port, $part, $prefix] = $_SERVER['argv'];
    $parts[$part](new Story((int) $port, $prefix, array_slice($_SERVER['argv'], 4)));
}
