<?php

/** Predis, in PHP alone, of the version that the distribution has. */

declare(strict_types=1);

require __DIR__ . '/story.php';
require 'Predis/autoload.php';

use Predis\Client;
use Predis\Collection\Iterator\Keyspace;
use Predis\Response\ServerException;
use Predis\Response\Status;

function connect(Story $story, array $more = []): Client
{
    return new Client(['host' => '127.0.0.1', 'port' => $story->port, 'read_write_timeout' => 30, ...$more]);
}

function set(Client $client): Closure
{
    return fn (string $key, string $value) => same((string) $client->set($key, $value), 'OK');
}

function get(Client $client): Closure
{
    return fn (string $key) => $client->get($key) ?? false;
}

const ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

run([
    'connect' => function (Story $story): void {
        $client = connect($story, ['persistent' => true]);
        same((string) $client->ping(), 'PONG');
        $client->client('setname', 'story');
        same($client->client('getname'), 'story');
        same($client->echo('hello'), 'hello');
        yes($client->info()['Server']['redis_version']);
    },

    'data' => function (Story $story): void {
        $client = connect($story);
        same((string) $client->set($story->key('a'), "\x00\r\n\xff", 'EX', 1000), 'OK');
        same($client->get($story->key('a')), "\x00\r\n\xff");
        $client->hmset($story->key('h'), ['f' => '1', 'g' => 'two']);
        same($client->hgetall($story->key('h')), ['f' => '1', 'g' => 'two']);
        same($client->rpush($story->key('l'), ['1', '2', '3']), 3);
        same($client->lrange($story->key('l'), 0, -1), ['1', '2', '3']);
        same($client->zadd($story->key('z'), ['one' => 1, 'two' => 2.5]), 2);
        same($client->zrange($story->key('z'), 0, -1, ['withscores' => true]), ['one' => '1', 'two' => '2.5']);
        $names = $story->keys(100);
        same((string) $client->mset(array_combine($names, $names)), 'OK');
        same($client->mget([...$names, $story->key('none')]), [...$names, null]);
        fails(ServerException::class, 'WRONGTYPE', fn () => $client->incr($story->key('h')));
        same($client->del($names), 100);
    },

    'pipeline' => function (Story $story): void {
        $answers = connect($story)->pipeline(function ($pipe) use ($story): void {
            foreach ($story->keys(100) as $name) {
                $pipe->set($name, 5);
                $pipe->incr($name);
            }
        });
        same(array_map(fn ($one) => $one instanceof Status ? (string) $one : $one, $answers), array_merge(...array_fill(0, 100, ['OK', 6])));
    },

    'transaction' => function (Story $story): void {
        $client = connect($story);
        $key = $story->tagged('a');
        [, $number, $none] = $client->transaction(function ($multi) use ($story, $key): void {
            $multi->set($key, 1);
            $multi->incr($key);
            $multi->get($story->tagged('none'));
        });
        same([$number, $none], [2, null]);
        fails(ServerException::class, 'not an integer', fn () => $client->transaction(function ($multi) use ($key): void {
            $multi->set($key, 'x');
            $multi->incr($key);
        }));
        same($client->get($key), 'x');
    },

    'watch' => function (Story $story): void {
        [$client, $other] = [connect($story), connect($story)];
        $key = $story->tagged('n');
        $client->set($key, 5);
        $turns = 0;
        $answers = $client->transaction(['watch' => $key, 'cas' => true, 'retry' => 3], function ($multi) use ($other, $key, &$turns): void {
            $value = (int) $multi->get($key);
            if ($turns++ === 0) {
                $other->set($key, 10);
            }
            $multi->multi();
            $multi->set($key, $value + 1);
        });
        same([count($answers), $turns, $client->get($key)], [1, 2, '11']);
    },

    'transaction_over_shards' => function (Story $story): void {
        same(connect($story)->transaction(function ($multi) use ($story): void {
            foreach ($story->keys(100) as $name) {
                $multi->incr($name);
            }
        }), array_fill(0, 100, 1));
    },

    'pubsub' => function (Story $story): void {
        $channels = $story->keys(10);
        $listener = connect($story)->pubSubLoop();
        $listener->subscribe(...$channels);
        $listener->psubscribe($story->key('*9'));
        $client = connect($story);
        $heard = [];
        foreach ($listener as $message) {
            if ($message->kind === 'psubscribe') {
                foreach ($channels as $n => $channel) {
                    same($client->publish($channel, "message$n"), $n === 9 ? 2 : 1);
                }
            } elseif ($message->kind !== 'subscribe' && $message->kind !== 'unsubscribe') {
                $heard[] = "$message->kind $message->channel $message->payload";
                if (count($heard) === 11) {
                    break;
                }
            }
        }
        sort($heard);
        $wanted = array_map(fn (int $n) => "message $channels[$n] message$n", range(0, 9));
        same($heard, [...$wanted, "pmessage $channels[9] message9"]);
    },

    'blocking' => function (Story $story): void {
        $client = connect($story);
        same($client->blpop([$story->tagged('q')], 1), null);
        later(fn () => connect($story)->rpush($story->tagged('q'), ['later']));
        same($client->blpop([$story->tagged('none'), $story->tagged('q')], 20), [$story->tagged('q'), 'later']);
        later(fn () => connect($story)->lpush($story->tagged('q'), ['moved']));
        same($client->brpoplpush($story->tagged('q'), $story->tagged('r'), 20), 'moved');
    },

    'scan' => function (Story $story): void {
        $client = connect($story);
        $names = $story->keys(500);
        $client->mset(array_fill_keys($names, 'v'));
        $found = array_unique(iterator_to_array(new Keyspace($client, $story->key('*'), 20), false));
        sort($found);
        sort($names);
        same($found, $names);
    },

    'keyspace' => function (Story $story): void {
        $client = connect($story);
        $client->mset(array_fill_keys($story->keys(50), 'v'));
        same(count($client->keys($story->key('*'))), 50);
        yes($client->dbsize() >= 50);
        same((string) $client->flushdb(), 'OK');
        same($client->dbsize(), 0);
    },

    'scripts' => function (Story $story): void {
        same(connect($story)->eval(ADD, 1, $story->key('n'), 5), 5);
    },

    'script_cache' => function (Story $story): void {
        $client = connect($story);
        $digest = $client->script('load', ADD);
        same($client->script('exists', $digest), [1]);
        foreach ($story->keys(40) as $name) {
            same($client->evalsha($digest, 1, $name, 3), 3);
        }
        fails(ServerException::class, 'NOSCRIPT', fn () => $client->evalsha(str_repeat('0', 40), 1, $story->key(1)));
    },

    'script_without_keys' => fn (Story $story) => same(connect($story)->eval('return 7', 0), 7),

    // This version of it has no methods for streams: their commands are sent as lists of words.
    'streams' => function (Story $story): void {
        $client = connect($story);
        $key = $story->key('x');
        $id = $client->executeRaw(['XADD', $key, '*', 'f', 'v']);
        same($client->executeRaw(['XGROUP', 'CREATE', $key, 'g', '0']), 'OK');
        same($client->executeRaw(['XREADGROUP', 'GROUP', 'g', 'one', 'COUNT', '5', 'STREAMS', $key, '>']), [[$key, [[$id, ['f', 'v']]]]]);
        same($client->executeRaw(['XPENDING', $key, 'g'])[0], 1);
        same($client->executeRaw(['XACK', $key, 'g', $id]), 1);
    },

    'databases' => function (Story $story): void {
        [$client, $other] = [connect($story), connect($story, ['database' => 3])];
        $client->set($story->key('a'), 'in 0');
        same($other->get($story->key('a')), null);
        $other->set($story->key('a'), 'in 3');
        same($client->get($story->key('a')), 'in 0');
    },

    'session' => function (Story $story): void {
        session_set_save_handler(new Predis\Session\Handler(connect($story, ['prefix' => $story->key('')]), ['gc_maxlifetime' => 1000]));
        session(null, '', []);
    },

    'failover' => function (Story $story): void {
        $client = connect($story);
        $story->goOn(set($client), get($client));
    },

    'restart' => function (Story $story): void {
        $client = connect($story);
        $story->comeBack(set($client), get($client));
    },
]);
