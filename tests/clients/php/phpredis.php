<?php

/** phpredis, the extension `redis`: one connection for a process. */

declare(strict_types=1);

require __DIR__ . '/story.php';

function connect(Story $story): Redis
{
    $client = new Redis();
    $client->connect('127.0.0.1', $story->port);
    return $client;
}

const ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

/**
 * So many messages, in the order of their channels. A subscriber hears until its connection is closed, which this
 * version makes an exception of.
 */
function heard(Story $story, string $subscribe, array $channels, int $count): array
{
    $heard = [];
    $hear = function (Redis $client, string ...$message) use (&$heard, $count): void {
        $heard[] = $message;
        if (count($heard) === $count) {
            $client->close();
        }
    };
    fails(RedisException::class, 'Connection closed', fn () => connect($story)->$subscribe($channels, $hear));
    sort($heard);
    return $heard;
}

run([
    'connect' => function (Story $story): void {
        $client = new Redis();
        yes($client->pconnect('127.0.0.1', $story->port, 5.0, 'story')); // one that is kept for the next
        yes($client->ping());
        yes($client->client('setname', 'story'));
        same($client->client('getname'), 'story');
        same($client->echo('hello'), 'hello');
        yes($client->info()['redis_version']);
        yes($client->select(0));
    },

    'data' => function (Story $story): void {
        $client = connect($story);
        yes($client->set($story->key('a'), "\x00\r\n\xff", ['ex' => 1000]));
        same($client->get($story->key('a')), "\x00\r\n\xff");
        yes($client->ttl($story->key('a')) > 900);
        yes($client->hMSet($story->key('h'), ['f' => '1', 'g' => 'two']));
        same($client->hGetAll($story->key('h')), ['f' => '1', 'g' => 'two']);
        same($client->rPush($story->key('l'), '1', '2', '3'), 3);
        same($client->lRange($story->key('l'), 0, -1), ['1', '2', '3']);
        same($client->sAdd($story->key('s'), 'x', 'y'), 2);
        yes($client->sIsMember($story->key('s'), 'x'));
        same($client->zAdd($story->key('z'), 1, 'one', 2.5, 'two'), 2);
        same($client->zRange($story->key('z'), 0, -1, true), ['one' => 1.0, 'two' => 2.5]);
        $names = $story->keys(100);
        yes($client->mSet(array_combine($names, $names)));
        same($client->mGet([...$names, $story->key('none')]), [...$names, false]);
        same($client->incr($story->key('h')), false); // its way to say that it failed
        yes(str_contains($client->getLastError(), 'WRONGTYPE'));
        same($client->del($names), 100);
        $client->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_IGBINARY);
        yes($client->set($story->key('nested'), ['a' => [1, null]]));
        same($client->get($story->key('nested')), ['a' => [1, null]]);
    },

    'pipeline' => function (Story $story): void {
        $pipe = connect($story)->multi(Redis::PIPELINE);
        foreach ($story->keys(100) as $name) {
            $pipe->set($name, 5)->incr($name);
        }
        $answers = $pipe->lPush($story->key(1), 'x')->get($story->key(1))->exec();
        same(array_slice($answers, 0, 200), array_merge(...array_fill(0, 100, [true, 6])));
        same(array_slice($answers, 200), [false, '6']);
    },

    'transaction' => function (Story $story): void {
        $client = connect($story);
        $key = $story->tagged('a');
        same($client->multi()->set($key, 1)->incr($key)->get($story->tagged('none'))->exec(), [true, 2, false]);
        same($client->multi()->set($key, 'x')->incr($key)->get($key)->exec(), [true, false, 'x']);
        $client->multi()->set($key, 'y');
        yes($client->discard());
        same($client->get($key), 'x');
    },

    'watch' => function (Story $story): void {
        [$client, $other] = [connect($story), connect($story)];
        $key = $story->tagged('n');
        $client->watch($key);
        $other->set($key, 5);
        same($client->multi()->set($key, 1)->exec(), false);
        $client->watch($key);
        same($client->multi()->incr($key)->exec(), [6]);
    },

    'transaction_over_shards' => function (Story $story): void {
        $multi = connect($story)->multi();
        foreach ($story->keys(100) as $name) {
            $multi->incr($name);
        }
        same($multi->exec(), array_fill(0, 100, 1));
    },

    'pubsub' => function (Story $story): void {
        $channels = $story->keys(10);
        later(function () use ($story, $channels): void {
            $client = connect($story);
            eventually(fn () => array_sum($client->pubsub('numsub', $channels)) === 10);
            foreach ($channels as $n => $channel) {
                $client->publish($channel, "message$n");
            }
        });
        same(heard($story, 'subscribe', $channels, 10), array_map(fn (int $n) => [$channels[$n], "message$n"], range(0, 9)));
        later(function () use ($story, $channels): void {
            $client = connect($story);
            eventually(fn () => $client->publish($channels[3], 'by pattern') === 1);
        });
        $pattern = $story->key('*');
        same(heard($story, 'psubscribe', [$pattern], 1), [[$pattern, $channels[3], 'by pattern']]);
    },

    'blocking' => function (Story $story): void {
        $client = connect($story);
        same($client->blPop([$story->tagged('q')], 1), []);
        later(fn () => connect($story)->rPush($story->tagged('q'), 'later'));
        same($client->blPop([$story->tagged('none'), $story->tagged('q')], 20), [$story->tagged('q'), 'later']);
        later(fn () => connect($story)->zAdd($story->tagged('z'), 1.5, 'm'));
        same($client->bzPopMin([$story->tagged('z')], 20), [$story->tagged('z'), 'm', '1.5']);
        later(function () use ($story): void { // what is added before it waits is none of its business
            for ($client = connect($story), $n = 0; $n < 40; $n++, usleep(50_000)) {
                $client->xAdd($story->tagged('x'), '*', ['f' => 'v']);
            }
        });
        $read = $client->xRead([$story->tagged('x') => '$'], 1, 20_000);
        same(array_values($read[$story->tagged('x')]), [['f' => 'v']]);
    },

    'scan' => function (Story $story): void {
        $client = connect($story);
        $names = $story->keys(500);
        $client->mSet(array_fill_keys($names, 'v'));
        $client->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
        $found = [];
        $cursor = null;
        while (($some = $client->scan($cursor, $story->key('*'), 20)) !== false) {
            $found += array_fill_keys($some, true);
        }
        same(count($found), 500);
        same(array_diff_key(array_fill_keys($names, true), $found), []);
    },

    'keyspace' => function (Story $story): void {
        $client = connect($story);
        $client->mSet(array_fill_keys($story->keys(50), 'v'));
        same(count($client->keys($story->key('*'))), 50);
        yes($client->dbSize() >= 50);
        yes($client->flushDB());
        same($client->dbSize(), 0);
    },

    'scripts' => function (Story $story): void {
        $client = connect($story);
        same($client->eval(ADD, [$story->key('n'), 5], 1), 5);
        same($client->eval('return {KEYS[1], ARGV[1], 7}', [$story->key('n'), 'v'], 1), [$story->key('n'), 'v', 7]);
    },

    'script_cache' => function (Story $story): void {
        $client = connect($story);
        $digest = $client->script('load', ADD);
        same($client->script('exists', $digest), [1]);
        foreach ($story->keys(40) as $name) {
            same($client->evalSha($digest, [$name, 3], 1), 3);
        }
        same($client->evalSha(str_repeat('0', 40), [$story->key(1)], 1), false);
        yes(str_contains($client->getLastError(), 'NOSCRIPT'));
    },

    'script_without_keys' => fn (Story $story) => same(connect($story)->eval('return 7'), 7),

    'streams' => function (Story $story): void {
        $client = connect($story);
        $key = $story->key('x');
        $id = $client->xAdd($key, '*', ['f' => 'v']);
        yes($client->xGroup('CREATE', $key, 'g', '0'));
        same($client->xReadGroup('g', 'one', [$key => '>'], 5), [$key => [$id => ['f' => 'v']]]);
        same($client->xPending($key, 'g')[0], 1);
        same($client->xAck($key, 'g', [$id]), 1);
    },

    'databases' => function (Story $story): void {
        [$client, $other] = [connect($story), connect($story)];
        yes($other->select(3));
        $client->set($story->key('a'), 'in 0');
        same($other->get($story->key('a')), false);
        $other->set($story->key('a'), 'in 3');
        same($client->get($story->key('a')), 'in 0');
    },

    'session' => function (Story $story): void {
        session('redis', "tcp://127.0.0.1:$story->port?prefix=" . urlencode($story->key('')), [
            'redis.session.locking_enabled' => '1',
        ]);
    },

    'failover' => function (Story $story): void {
        $client = connect($story);
        $story->goOn(fn (string $key, string $value) => yes($client->set($key, $value)), $client->get(...));
    },

    'restart' => function (Story $story): void {
        $client = connect($story);
        $story->comeBack(fn (string $key, string $value) => yes($client->set($key, $value)), $client->get(...));
    },
]);
