# frozen_string_literal: true

# Dalli, by the protocol that its version prefers: the binary one before 5, the meta commands from there.

require 'dalli'
require_relative 'story'

def connect(story, **more)
  Dalli::Client.new("127.0.0.1:#{story.port}", down_retry_delay: 0.02, **more)
end

def set(client)
  ->(key, value) { yes client.set(key, value) }
end

run(
  data: lambda do |story|
    client = connect(story)
    yes client.set(story.key('a'), { 'nested' => [1] }, 1000)
    same client.get(story.key('a')), { 'nested' => [1] }
    same client.add(story.key('a'), 1), false
    yes client.add(story.key('b'), 'x', 0, raw: true)
    yes client.replace(story.key('b'), 'v', 0, raw: true)
    yes client.append(story.key('b'), 'c')
    yes client.prepend(story.key('b'), 'a')
    same client.get(story.key('b'), raw: true), 'avc'
    same client.incr(story.key('n'), 5, 1000, 10), 10
    same client.incr(story.key('n'), 5), 15
    same client.decr(story.key('n'), 20), 0
    same client.incr(story.key('none'), 1), nil
    yes client.touch(story.key('b'), 1000)
    same client.gat(story.key('a'), 1000), { 'nested' => [1] }
    yes client.delete(story.key('b'))
    yes !client.delete(story.key('b'))
    same client.get(story.key('b')), nil
    same client.fetch(story.key('f')) { 'made' }, 'made'
    same client.fetch(story.key('f')) { 'not again' }, 'made'
    same client.fetch(story.key('f')) { 'nor now' }, 'made'
    large = Random.new(1).bytes(900_000)
    yes client.set(story.key('large'), large)
    yes client.get(story.key('large')) == large
    yes client.set(story.key('grüße'), 'v')
    same client.get(story.key('grüße')), 'v'
    same client.stats.values[0].key?('curr_items'), true
    same client.version.size, 1
  end,

  many: lambda do |story|
    client = connect(story)
    names = story.keys(200)
    client.multi { names.each { |name| client.set(name, "#{name}'s") } } # quiet ones
    found = client.get_multi(*names, story.key('none'))
    same found, names.to_h { |name| [name, "#{name}'s"] }
    client.multi { names.take(100).each { |name| client.delete(name) } }
    same client.get_multi(*names).size, 100
  end,

  cas: lambda do |story|
    first = connect(story)
    second = connect(story)
    story.keys(20).each do |name|
      yes first.set(name, 1)
      yes(first.cas(name) { |value| value + 1 })
      same(first.cas(name) { |value| second.set(name, 10) && value }, false)
      same first.get(name), 10
    end
    same first.cas(story.key('none')) { 1 }, nil
    _, token = first.get_cas(story.key(1))
    yes first.set_cas(story.key(1), 'v', token)
    yes !first.set_cas(story.key(1), 'w', token)
    yes !first.delete_cas(story.key(1), token)
  end,

  failover: lambda do |story|
    client = connect(story) # one for all threads, with a lock of its own
    story.go_on(set(client), client.method(:get))
  end,

  restart: lambda do |story|
    client = connect(story)
    story.come_back(set(client), client.method(:get))
  end
)
