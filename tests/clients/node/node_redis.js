// node-redis, the package `redis`.
'use strict';

const assert = require('node:assert/strict');
const { createClient, createCluster, WatchError } = require('redis');
const { eventually, run, sleep, until } = require('./story');

async function connect(story, more = {}) {
  const version = story.options.find((option) => option.startsWith('resp'));
  const client = createClient({
    socket: { host: '127.0.0.1', port: story.port },
    ...(version && { RESP: Number(version.at(-1)) }),
    ...more,
  });
  client.on('error', () => {}); // it connects again by itself
  return client.connect();
}

const numbers = (count) => Array.from({ length: count }, (_, n) => n);
const pairs = (names, value) => Object.fromEntries(names.map((name) => [name, value ?? name]));

run({
  async connect(story) {
    const client = await connect(story, { name: 'story' });
    assert.equal(await client.ping(), 'PONG');
    assert.equal(await client.clientGetName(), 'story');
    assert.match(await client.info(), /redis_version:/);
    await client.select(0);
  },

  async data(story) {
    const client = await connect(story);
    assert.equal(await client.set(story.key('a'), 'grüße\r\n', { EX: 1000 }), 'OK');
    assert.equal(await client.get(story.key('a')), 'grüße\r\n');
    assert.equal(await client.hSet(story.key('h'), { f: 1, g: 'two' }), 2);
    assert.deepEqual({ ...(await client.hGetAll(story.key('h'))) }, { f: '1', g: 'two' });
    await client.zAdd(story.key('z'), [{ score: 1, value: 'one' }, { score: 2.5, value: 'two' }]);
    assert.deepEqual((await client.zRangeWithScores(story.key('z'), 0, -1)).map((one) => ({ ...one })), [
      { value: 'one', score: 1 },
      { value: 'two', score: 2.5 },
    ]);
    const names = numbers(100).map((n) => story.key(n));
    assert.equal(await client.mSet(pairs(names)), 'OK');
    assert.deepEqual(await client.mGet([...names, story.key('none')]), [...names, null]);
    await assert.rejects(client.incr(story.key('h')), /WRONGTYPE/);
    assert.equal(await client.del(names), 100);
  },

  async pipeline(story) {
    const client = await connect(story); // what is asked in one turn of the loop goes as one
    const answers = await Promise.all(numbers(200).map((n) => client.incr(story.key(n % 100))));
    assert.deepEqual(answers, numbers(200).map((n) => (n < 100 ? 1 : 2)));
    const batch = client.multi();
    for (const n of numbers(100)) batch.set(story.key(n), String(n)).get(story.key(n));
    assert.deepEqual(await batch.execAsPipeline(), numbers(100).flatMap((n) => ['OK', String(n)]));
  },

  async transaction(story) {
    const client = await connect(story);
    const key = story.tagged('a');
    assert.deepEqual(await client.multi().set(key, '1').incr(key).get(story.tagged('none')).exec(), ['OK', 2, null]);
    await assert.rejects(client.multi().set(key, 'x').incr(key).exec(), (error) => /not an integer/.test(error.errors().next().value.message));
  },

  async watch(story) {
    const [client, other] = [await connect(story), await connect(story)];
    const key = story.tagged('n');
    await client.watch(key);
    await other.set(key, '5');
    await assert.rejects(client.multi().set(key, '1').exec(), WatchError);
    await client.watch(key);
    assert.deepEqual(await client.multi().incr(key).exec(), [6]);
  },

  async transaction_over_shards(story) {
    const multi = (await connect(story)).multi();
    for (const n of numbers(100)) multi.incr(story.key(n));
    assert.deepEqual(await multi.exec(), numbers(100).map(() => 1));
  },

  async pubsub(story) {
    const [client, listener] = [await connect(story), await connect(story)];
    const channels = numbers(10).map((n) => story.key(`channel${n}`));
    const seen = [];
    await listener.subscribe(channels, (data, channel) => seen.push([channel, data]));
    await listener.pSubscribe(story.key('*9'), (data, channel) => seen.push(['pattern', channel, data]));
    for (const [n, channel] of channels.entries()) assert.equal(await client.publish(channel, String(n)), n === 9 ? 2 : 1);
    await eventually(() => seen.length === 11);
    await listener.unsubscribe(channels[0]);
    assert.equal(await client.publish(channels[0], 'x'), 0);
  },

  async blocking(story) {
    const [client, other] = [await connect(story), await connect(story)];
    assert.equal(await client.blPop(story.tagged('q'), 0.1), null);
    const found = client.blPop([story.tagged('none'), story.tagged('q')], 20);
    await sleep(100);
    await other.rPush(story.tagged('q'), 'later');
    assert.deepEqual({ ...(await found) }, { key: story.tagged('q'), element: 'later' });
    const read = client.xRead({ key: story.tagged('x'), id: '$' }, { BLOCK: 20_000 });
    assert.match(JSON.stringify(await until(read, () => other.xAdd(story.tagged('x'), '*', { f: 'v' }))), /"v"/);
  },

  async scan(story) {
    const client = await connect(story);
    const names = numbers(500).map((n) => story.key(n));
    await client.mSet(pairs(names, 'v'));
    const found = new Set();
    for await (const some of client.scanIterator({ MATCH: story.key('*'), COUNT: 20 })) [some].flat().forEach((name) => found.add(name));
    assert.deepEqual(found, new Set(names));
  },

  async keyspace(story) {
    const client = await connect(story);
    await client.mSet(pairs(numbers(50).map((n) => story.key(n))));
    assert.equal((await client.keys(story.key('*'))).length, 50);
    assert.ok((await client.dbSize()) >= 50);
    assert.equal(await client.flushDb(), 'OK');
    assert.equal(await client.dbSize(), 0);
  },

  async scripts(story) {
    const client = await connect(story);
    const options = { keys: [story.key('n')], arguments: ['5'] };
    assert.equal(await client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", options), 5);
  },

  async script_cache(story) {
    const client = await connect(story);
    const digest = await client.scriptLoad('return ARGV[1]');
    for (const n of numbers(40)) {
      assert.equal(await client.evalSha(digest, { keys: [story.key(n)], arguments: [String(n)] }), String(n));
    }
    assert.deepEqual([...(await client.scriptExists(digest))], [1]);
  },

  async script_without_keys(story) {
    assert.equal(await (await connect(story)).eval('return 7'), 7);
  },

  async streams(story) {
    const client = await connect(story);
    const key = story.key('x');
    const id = await client.xAdd(key, '*', { f: 'v' });
    assert.equal(await client.xGroupCreate(key, 'g', '0'), 'OK');
    assert.match(JSON.stringify(await client.xReadGroup('g', 'one', { key, id: '>' })), /"v"/);
    assert.equal(await client.xAck(key, 'g', id), 1);
  },

  async databases(story) {
    const [client, other] = [await connect(story), await connect(story, { database: 3 })];
    await client.set(story.key('a'), 'in 0');
    assert.equal(await other.get(story.key('a')), null);
    await other.set(story.key('a'), 'in 3');
    assert.equal(await client.get(story.key('a')), 'in 0');
  },

  /** To this client the proxy is one node with all slots. */
  async cluster(story) {
    const client = await createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${story.port}` }] }).connect();
    const names = numbers(100).map((n) => story.key(n));
    assert.deepEqual(new Set(await Promise.all(names.map((name) => client.set(name, name)))), new Set(['OK']));
    assert.deepEqual(await Promise.all(names.map((name) => client.get(name))), names);
    assert.equal(await client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", { keys: [story.key('n')], arguments: ['5'] }), 5);
    assert.deepEqual(await client.multi().set(story.tagged('a'), 1).incr(story.tagged('a')).exec(), ['OK', 2]);
  },

  async failover(story) {
    const client = await connect(story);
    return story.goOn((key, value) => client.set(key, value), (key) => client.get(key));
  },

  async restart(story) {
    const client = await connect(story);
    return story.comeBack((key, value) => client.set(key, value), (key) => client.get(key));
  },
});
