# frozen_string_literal: true

# The gem redis, of the version that the distribution has.

require 'connection_pool'
require 'redis'
require_relative 'story'

def connect(story, **more)
  Redis.new(host: '127.0.0.1', port: story.port, **more)
end

def set(client)
  ->(key, value) { same client.set(key, value), 'OK' }
end

ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"

run(
  connect: lambda do |story|
    client = connect(story, id: 'story')
    same client.ping, 'PONG'
    same client.echo('hello'), 'hello'
    yes client.info['redis_version']
    same client.select(0), 'OK'
    client.close
  end,

  data: lambda do |story|
    client = connect(story)
    same client.set(story.key('a'), "\x00\r\n\xFF".b, ex: 1000), 'OK'
    same client.get(story.key('a')).b, "\x00\r\n\xFF".b
    yes client.ttl(story.key('a')) > 900
    same client.hset(story.key('h'), { 'f' => 1, 'g' => 'two' }), 2
    same client.hgetall(story.key('h')), { 'f' => '1', 'g' => 'two' }
    same client.rpush(story.key('l'), %w[1 2 3]), 3
    same client.lrange(story.key('l'), 0, -1), %w[1 2 3]
    same client.sadd(story.key('s'), %w[x y]), 2
    yes client.sismember(story.key('s'), 'x')
    same client.zadd(story.key('z'), [[1, 'one'], [2.5, 'two']]), 2
    same client.zrange(story.key('z'), 0, -1, with_scores: true), [['one', 1.0], ['two', 2.5]]
    names = story.keys(100)
    same client.mapped_mset(names.to_h { |name| [name, name] }), 'OK'
    same client.mget(*names, story.key('none')), [*names, nil]
    fails(Redis::CommandError, 'WRONGTYPE') { client.incr(story.key('h')) }
    same client.del(*names), 100
  end,

  pipeline: lambda do |story|
    client = connect(story)
    fails(Redis::CommandError, 'WRONGTYPE') do
      client.pipelined do |pipe|
        story.keys(100).each do |name|
          pipe.set(name, 5)
          pipe.incr(name)
        end
        pipe.lpush(story.key(1), 'x')
      end
    end
    same client.pipelined { |pipe| story.keys(100).each { |name| pipe.get(name) } }, ['6'] * 100
  end,

  transaction: lambda do |story|
    client = connect(story)
    key = story.tagged('a')
    same(client.multi do |multi|
      multi.set(key, 1)
      multi.incr(key)
      multi.get(story.tagged('none'))
    end, ['OK', 2, nil])
    fails(Redis::CommandError, 'not an integer') do
      client.multi do |multi|
        multi.set(key, 'x')
        multi.incr(key)
      end
    end
    same client.get(key), 'x'
  end,

  watch: lambda do |story|
    client = connect(story)
    other = connect(story)
    key = story.tagged('n')
    same(client.watch(key) do
      other.set(key, 5)
      client.multi { |multi| multi.set(key, 1) }
    end, nil)
    same(client.watch(key) { client.multi { |multi| multi.incr(key) } }, [6])
  end,

  transaction_over_shards: lambda do |story|
    same connect(story).multi { |multi| story.keys(100).each { |name| multi.incr(name) } }, [1] * 100
  end,

  pubsub: lambda do |story|
    client = connect(story)
    listener = connect(story)
    channels = story.keys(10)
    heard = []
    listener.subscribe(*channels) do |on|
      on.subscribe do |_, count|
        channels.each_with_index { |channel, n| same client.publish(channel, "message#{n}"), 1 } if count == 10
      end
      on.message do |channel, words|
        heard << [channel, words]
        listener.unsubscribe if heard.size == 10
      end
    end
    same heard.sort, channels.each_with_index.map { |channel, n| [channel, "message#{n}"] }
    same client.publish(channels[0], 'x'), 0
    listener.psubscribe(story.key('*')) do |on|
      on.psubscribe { |_, _| same client.publish(channels[3], 'by pattern'), 1 }
      on.pmessage do |*message|
        same message, [story.key('*'), channels[3], 'by pattern']
        listener.punsubscribe
      end
    end
    same listener.ping, 'PONG'
  end,

  blocking: lambda do |story|
    client = connect(story)
    other = connect(story)
    same client.blpop(story.tagged('q'), timeout: 1), nil
    later { other.rpush(story.tagged('q'), 'later') }
    same client.blpop(story.tagged('none'), story.tagged('q'), timeout: 20), [story.tagged('q'), 'later']
    later { other.zadd(story.tagged('z'), 1.5, 'm') }
    same client.bzpopmin(story.tagged('z'), timeout: 20), [story.tagged('z'), 'm', 1.5]
    read = Thread.new { client.xread(story.tagged('x'), '$', block: 20_000) }
    # What is added before it waits is none of its business.
    other.xadd(story.tagged('x'), { f: 'v' }) until read.join(0.05)
    same read.value[story.tagged('x')][0][1], { 'f' => 'v' }
  end,

  blocking_over_shards: lambda do |story|
    client = connect(story)
    other = connect(story)
    queues = story.keys(8)
    8.times do |n|
      later { other.rpush(queues[n], n) }
      same client.brpop(*queues, timeout: 20), [queues[n], n.to_s]
    end
  end,

  scan: lambda do |story|
    client = connect(story)
    names = story.keys(500)
    client.mapped_mset(names.to_h { |name| [name, 'v'] })
    same client.scan_each(match: story.key('*'), count: 20).to_a.uniq.sort, names.sort
  end,

  keyspace: lambda do |story|
    client = connect(story)
    client.mapped_mset(story.keys(50).to_h { |name| [name, 'v'] })
    same client.keys(story.key('*')).size, 50
    yes client.dbsize >= 50
    same client.flushdb, 'OK'
    same client.dbsize, 0
  end,

  scripts: lambda do |story|
    client = connect(story)
    same client.eval(ADD, [story.key('n')], [5]), 5
    same client.eval('return {KEYS[1], ARGV[1], 7}', [story.key('n')], ['v']), [story.key('n'), 'v', 7]
  end,

  script_cache: lambda do |story|
    client = connect(story)
    digest = client.script(:load, ADD)
    yes client.script(:exists, digest)
    story.keys(40).each { |name| same client.evalsha(digest, [name], [3]), 3 }
    fails(Redis::CommandError, 'NOSCRIPT') { client.evalsha('0' * 40, [story.key(1)], [1]) }
  end,

  script_without_keys: ->(story) { same connect(story).eval('return 7'), 7 },

  streams: lambda do |story|
    client = connect(story)
    key = story.key('x')
    id = client.xadd(key, { f: 'v' })
    same client.xgroup(:create, key, 'g', '0'), 'OK'
    same client.xreadgroup('g', 'one', key, '>'), { key => [[id, { 'f' => 'v' }]] }
    same client.xpending(key, 'g')['size'], 1
    same client.xack(key, 'g', id), 1
  end,

  databases: lambda do |story|
    client = connect(story)
    other = connect(story, db: 3)
    client.set(story.key('a'), 'in 0')
    same other.get(story.key('a')), nil
    other.set(story.key('a'), 'in 3')
    same client.get(story.key('a')), 'in 0'
  end,

  pool: lambda do |story|
    pool = ConnectionPool.new(size: 4) { connect(story) }
    Array.new(8) do |thread|
      Thread.new do
        20.times do
          pool.with do |client|
            same(client.multi do |multi|
              multi.incr(story.tagged('n'))
              multi.incr(story.tagged(thread))
            end.size, 2)
          end
        end
      end
    end.each(&:join)
    same connect(story).get(story.tagged('n')), '160'
  end,

  failover: lambda do |story|
    pool = ConnectionPool::Wrapper.new(size: 4) { connect(story) }
    story.go_on(set(pool), pool.method(:get))
  end,

  restart: lambda do |story|
    client = connect(story)
    story.come_back(set(client), client.method(:get))
  end
)
