package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// rueidisParts are those of rueidis, which sends what several goroutines ask on one connection, and waits on others.
// Its own cache must be off (COMMANDS.md, CLIENT TRACKING).
func rueidisParts(resp2 bool) parts {
	connect := func(s *story, change ...func(*rueidis.ClientOption)) rueidis.Client {
		options := rueidis.ClientOption{InitAddress: []string{s.address}, DisableCache: true, AlwaysRESP2: resp2}
		for _, each := range change {
			each(&options)
		}
		return good(rueidis.NewClient(options))
	}
	return parts{
		"connect": func(s *story) {
			client := connect(s, func(options *rueidis.ClientOption) { options.ClientName = "story" })
			same(client.Mode(), rueidis.ClientModeStandalone)
			same(text(client, "PING"), "PONG")
			same(text(client, "CLIENT", "GETNAME"), "story")
			if !strings.Contains(text(client, "INFO"), "redis_version:") {
				panic("no version")
			}
		},
		"data": func(s *story) {
			client := connect(s)
			same(text(client, "SET", s.key("a"), "\x00\r\n\xff", "EX", "1000"), "OK")
			same(text(client, "GET", s.key("a")), "\x00\r\n\xff")
			same(number(client, "HSET", s.key("h"), "f", "1", "g", "two"), int64(2))
			same(good(ask(client, "HGETALL", s.key("h")).AsStrMap()), map[string]string{"f": "1", "g": "two"})
			same(number(client, "ZADD", s.key("z"), "2.5", "two"), int64(1))
			same(good(ask(client, "ZRANGE", s.key("z"), "0", "-1", "WITHSCORES").AsZScores()), []rueidis.ZScore{{Member: "two", Score: 2.5}})
			all := names(s, 100)
			ok(rueidis.MSet(client, background, pairs(all))[all[0]])
			found := good(rueidis.MGet(client, background, append(all, s.key("none"))))
			for _, name := range all {
				message := found[name]
				same(good(message.ToString()), name)
			}
			none := found[s.key("none")]
			same(none.IsNil(), true)
			fails(ask(client, "INCR", s.key("h")).Error(), "WRONGTYPE")
			same(number(client, append([]string{"DEL"}, all...)...), int64(100))
		},
		"pipeline": func(s *story) {
			client := connect(s)
			var commands rueidis.Commands
			for n := range 100 {
				commands = append(commands, client.B().Set().Key(s.key(n)).Value(strconv.Itoa(n)).Build(), client.B().Incr().Key(s.key(n)).Build())
			}
			for n, found := range client.DoMulti(background, commands...) {
				if n%2 == 1 {
					same(good(found.AsInt64()), int64(n/2+1))
				} else {
					ok(found.Error())
				}
			}
		},
		"transaction": func(s *story) {
			client, key := connect(s), s.tagged("a")
			answers := executed(client, []string{"SET", key, "1"}, []string{"INCR", key}, []string{"GET", s.tagged("none")})
			same(good(answers[1].AsInt64()), int64(2))
			same(answers[2].IsNil(), true)
			answers = executed(client, []string{"SET", key, "x"}, []string{"INCR", key})
			fails(answers[1].Error(), "not an integer")
			ok(client.Dedicated(func(one rueidis.DedicatedClient) error {
				found := one.DoMulti(background, build(client, "MULTI"), build(client, "SET", key, "y"), build(client, "GET"), build(client, "EXEC"))
				fails(found[3].Error(), "EXECABORT")
				return nil
			}))
			same(text(client, "GET", key), "x")
		},
		"watch": func(s *story) {
			client, key := connect(s), s.tagged("n")
			same(text(client, "SET", key, "5"), "OK")
			try := func(between func()) (answer rueidis.RedisMessage, err error) {
				err = client.Dedicated(func(one rueidis.DedicatedClient) error {
					ok(one.Do(background, one.B().Watch().Key(key).Build()).Error())
					value := good(one.Do(background, one.B().Get().Key(key).Build()).AsInt64())
					between()
					found := one.DoMulti(background, build(client, "MULTI"), build(client, "SET", key, strconv.FormatInt(value+1, 10)), build(client, "EXEC"))
					var failed error
					answer, failed = found[2].ToMessage()
					return failed
				})
				return answer, err
			}
			_, err := try(func() { same(number(client, "INCR", key), int64(6)) })
			same(rueidis.IsRedisNil(err), true)
			good(try(func() {}))
			same(text(client, "GET", key), "7")
		},
		"transaction_over_shards": func(s *story) {
			var commands [][]string
			for _, name := range names(s, 100) {
				commands = append(commands, []string{"INCR", name})
			}
			for _, answer := range executed(connect(s), commands...) {
				same(good(answer.AsInt64()), int64(1))
			}
		},
		"pubsub": func(s *story) {
			client, channels := connect(s), names(s, 10)
			messages, confirmed := make(chan rueidis.PubSubMessage, 100), make(chan string, 100)
			until := rueidis.WithOnSubscriptionHook(background, func(one rueidis.PubSubSubscription) { confirmed <- one.Kind })
			hear := func(subscribe rueidis.Completed) {
				ok(client.Receive(until, subscribe, func(message rueidis.PubSubMessage) { messages <- message }))
			}
			go hear(client.B().Subscribe().Channel(channels...).Build())
			for range channels {
				same(<-confirmed, "subscribe")
			}
			go hear(client.B().Psubscribe().Pattern(s.key("*9")).Build())
			same(<-confirmed, "psubscribe")
			for n, channel := range channels {
				wanted := int64(1)
				if n == 9 {
					wanted = 2
				}
				same(number(client, "PUBLISH", channel, strconv.Itoa(n)), wanted)
			}
			seen := map[string]int{}
			for range 11 {
				select {
				case message := <-messages:
					seen[message.Channel]++
				case <-time.After(10 * time.Second):
					panic("no message in 10 s")
				}
			}
			same([]int{len(seen), seen[channels[9]]}, []int{10, 2})
			ok(client.Do(background, client.B().Unsubscribe().Channel(channels...).Build()).Error())
			eventually(func() bool { return number(client, "PUBLISH", channels[0], "x") == 0 })
		},
		"blocking": func(s *story) {
			client, queue := connect(s), s.tagged("q")
			wait := func(seconds float64, queues ...string) ([]string, error) {
				return client.Do(background, client.B().Blpop().Key(queues...).Timeout(seconds).Build()).AsStrSlice()
			}
			_, err := wait(0.1, queue)
			same(rueidis.IsRedisNil(err), true)
			go func() {
				time.Sleep(100 * time.Millisecond)
				ask(client, "RPUSH", queue, "later")
			}()
			same(good(wait(20, s.tagged("none"), queue)), []string{queue, "later"})
			found := make(chan bool)
			go func() {
				for { // what is added before it waits is none of its business
					select {
					case <-found:
						return
					case <-time.After(50 * time.Millisecond):
						ask(client, "XADD", s.tagged("x"), "*", "f", "v")
					}
				}
			}()
			read := client.Do(background, client.B().Xread().Block(20_000).Streams().Key(s.tagged("x")).Id("$").Build())
			close(found)
			same(good(read.AsXRead())[s.tagged("x")][0].FieldValues, map[string]string{"f": "v"})
		},
		"scan": func(s *story) {
			client, found := connect(s), map[string]bool{}
			ok(rueidis.MSet(client, background, pairs(names(s, 500)))[s.key(0)])
			scanner := rueidis.NewScanner(func(cursor uint64) (rueidis.ScanEntry, error) {
				return client.Do(background, client.B().Scan().Cursor(cursor).Match(s.key("*")).Count(20).Build()).AsScanEntry()
			})
			for key := range scanner.Iter() {
				found[key] = true
			}
			ok(scanner.Err())
			same(len(found), 500)
		},
		"keyspace": func(s *story) {
			client := connect(s)
			ok(rueidis.MSet(client, background, pairs(names(s, 50)))[s.key(0)])
			same(len(good(ask(client, "KEYS", s.key("*")).AsStrSlice())), 50)
			same(text(client, "FLUSHDB"), "OK")
			same(number(client, "DBSIZE"), int64(0))
		},
		"scripts": func(s *story) {
			same(number(connect(s), "EVAL", "return redis.call('INCRBY', KEYS[1], ARGV[1])", "1", s.key("n"), "5"), int64(5))
		},
		"script_cache": func(s *story) {
			client := connect(s)
			plus := rueidis.NewLuaScript("return redis.call('INCRBY', KEYS[1], ARGV[1])") // EVALSHA, then EVAL
			for n := range 40 {
				same(good(plus.Exec(background, client, []string{s.key(n)}, []string{strconv.Itoa(n)}).AsInt64()), int64(n))
			}
			digest := text(client, "SCRIPT", "LOAD", "return ARGV[1]")
			for n := range 40 {
				same(text(client, "EVALSHA", digest, "1", s.key(n), strconv.Itoa(n)), strconv.Itoa(n))
			}
		},
		"script_without_keys": func(s *story) { same(number(connect(s), "EVAL", "return 7", "0"), int64(7)) },
		"streams": func(s *story) {
			client, key := connect(s), s.key("x")
			id := text(client, "XADD", key, "*", "f", "v")
			same(text(client, "XGROUP", "CREATE", key, "g", "0"), "OK")
			read := good(ask(client, "XREADGROUP", "GROUP", "g", "one", "STREAMS", key, ">").AsXRead())
			same(read[key][0].ID, id)
			same(number(client, "XACK", key, "g", id), int64(1))
		},
		"databases": func(s *story) {
			client, other := connect(s), connect(s, func(options *rueidis.ClientOption) { options.SelectDB = 3 })
			same(text(client, "SET", s.key("a"), "in 0"), "OK")
			same(rueidis.IsRedisNil(ask(other, "GET", s.key("a")).Error()), true)
			same(text(other, "SET", s.key("a"), "in 3"), "OK")
			same(text(client, "GET", s.key("a")), "in 0")
		},
		// It finds out by itself that the proxy is a cluster, of one node with all slots.
		"cluster": func(s *story) {
			client := connect(s)
			same(client.Mode(), rueidis.ClientModeCluster)
			all := names(s, 100)
			for _, err := range rueidis.MSet(client, background, pairs(all)) {
				ok(err)
			}
			for name, message := range good(rueidis.MGet(client, background, all)) {
				same(good(message.ToString()), name)
			}
			plus := rueidis.NewLuaScript("return redis.call('INCRBY', KEYS[1], ARGV[1])")
			same(good(plus.Exec(background, client, []string{s.key("n")}, []string{"5"}).AsInt64()), int64(5))
		},
		"failover": func(s *story) { s.goOn(rueidisSetAndGet(connect(s))) },
		"restart":  func(s *story) { s.comeBack(rueidisSetAndGet(connect(s))) },
	}
}

func rueidisSetAndGet(client rueidis.Client) (func(key, value string) error, func(key string) (string, error)) {
	set := func(key, value string) error {
		return client.Do(background, client.B().Set().Key(key).Value(value).Build()).Error()
	}
	get := func(key string) (string, error) {
		return client.Do(background, client.B().Get().Key(key).Build()).ToString()
	}
	return set, get
}

// build is a command of these words.
func build(client rueidis.Client, words ...string) rueidis.Completed {
	return client.B().Arbitrary(words...).Build()
}

func ask(client rueidis.Client, words ...string) rueidis.RedisResult {
	return client.Do(background, build(client, words...))
}

func text(client rueidis.Client, words ...string) string {
	return good(ask(client, words...).ToString())
}
func number(client rueidis.Client, words ...string) int64 {
	return good(ask(client, words...).AsInt64())
}

// executed is what EXEC answers to these commands.
func executed(client rueidis.Client, commands ...[]string) (answers []rueidis.RedisMessage) {
	ok(client.Dedicated(func(one rueidis.DedicatedClient) error {
		all := rueidis.Commands{build(client, "MULTI")}
		for _, words := range commands {
			all = append(all, build(client, words...))
		}
		found := one.DoMulti(background, append(all, build(client, "EXEC"))...)
		answers = good(found[len(found)-1].ToArray())
		return nil
	}))
	return answers
}

// pairs has each name as its own value.
func pairs(names []string) map[string]string {
	found := map[string]string{}
	for _, name := range names {
		found[name] = name
	}
	return found
}
