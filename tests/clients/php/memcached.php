<?php

/** The extension `memcached`, on libmemcached. Option: `binary`. */

declare(strict_types=1);

require __DIR__ . '/story.php';

function connect(Story $story): Memcached
{
    $client = new Memcached();
    $client->setOption(Memcached::OPT_BINARY_PROTOCOL, $story->has('binary'));
    $client->addServer('127.0.0.1', $story->port);
    return $client;
}

function set(Memcached $client): Closure
{
    return function (string $key, string $value) use ($client): bool {
        if (!$client->set($key, $value)) {
            throw new RuntimeException("set of $key: {$client->getResultMessage()}");
        }
        return true;
    };
}

run([
    'data' => function (Story $story): void {
        $client = connect($story);
        yes($client->set($story->key('a'), ['nested' => [1]], 1000));
        same($client->get($story->key('a')), ['nested' => [1]]);
        same($client->add($story->key('a'), 1), false);
        same($client->getResultCode(), $story->has('binary') ? Memcached::RES_DATA_EXISTS : Memcached::RES_NOTSTORED);
        yes($client->add($story->key('b'), 'x'));
        yes($client->replace($story->key('b'), 'v'));
        $client->setOption(Memcached::OPT_COMPRESSION, false); // what is compressed cannot be appended to
        yes($client->append($story->key('b'), 'c'));
        yes($client->prepend($story->key('b'), 'a'));
        same($client->get($story->key('b')), 'avc');
        yes($client->set($story->key('n'), 10));
        same($client->increment($story->key('n'), 5), 15);
        same($client->decrement($story->key('n'), 20), 0);
        if ($story->has('binary')) { // it has no other way to begin a counter
            same($client->increment($story->key('begun'), 1, 100, 1000), 100);
            same($client->increment($story->key('begun'), 1, 100, 1000), 101);
        }
        yes($client->touch($story->key('b'), 1000));
        yes($client->delete($story->key('b')));
        same($client->delete($story->key('b')), false);
        same($client->get($story->key('b')), false);
        same($client->getResultCode(), Memcached::RES_NOTFOUND);
        $large = random_bytes(900_000);
        yes($client->set($story->key('large'), $large));
        yes($client->get($story->key('large')) === $large);
        same(count($client->getVersion()), 1);
    },

    'many' => function (Story $story): void {
        $client = connect($story);
        $values = array_combine($story->keys(200), range(0, 199));
        yes($client->setMulti($values, 1000));
        $found = $client->getMulti([...array_keys($values), $story->key('none')]);
        ksort($found);
        ksort($values);
        same($found, $values);
        yes($client->getDelayed(array_keys($values)));
        same(count($client->fetchAll()), 200);
        same(array_unique($client->deleteMulti(array_slice(array_keys($values), 0, 100))), [array_key_first($values) => true]);
        same(count($client->getMulti(array_keys($values))), 100);
    },

    'cas' => function (Story $story): void {
        $client = connect($story);
        foreach ($story->keys(20) as $name) {
            yes($client->set($name, 1));
            $token = $client->get($name, null, Memcached::GET_EXTENDED)['cas'];
            yes($client->cas($token, $name, 2));
            same($client->cas($token, $name, 3), false);
            same($client->getResultCode(), Memcached::RES_DATA_EXISTS);
            same($client->get($name), 2);
        }
    },

    'session' => function (Story $story): void {
        session('memcached', "127.0.0.1:$story->port", [
            'memcached.sess_prefix' => $story->key(''),
            'memcached.sess_binary_protocol' => $story->has('binary') ? '1' : '0',
        ]);
    },

    'failover' => function (Story $story): void {
        $client = connect($story);
        $story->goOn(set($client), $client->get(...));
    },

    'restart' => function (Story $story): void {
        $client = connect($story);
        $client->setOption(Memcached::OPT_RETRY_TIMEOUT, 0); // or it takes the server for dead for seconds
        $story->comeBack(set($client), $client->get(...));
    },
]);
