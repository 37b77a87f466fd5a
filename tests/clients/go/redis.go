package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var background = context.Background()

func connect(s *story) *redis.Client { return redis.NewClient(&redis.Options{Addr: s.address}) }

func fails(err error, words string) {
	if err == nil || !strings.Contains(err.Error(), words) {
		panic(fmt.Sprintf("%v does not say %q", err, words))
	}
}

func names(s *story, count int) (found []string) {
	for n := range count {
		found = append(found, s.key(n))
	}
	return found
}

func set(client *redis.Client) func(key, value string) error {
	return func(key, value string) error { return client.Set(background, key, value, 0).Err() }
}

func get(client *redis.Client) func(key string) (string, error) {
	return func(key string) (string, error) { return client.Get(background, key).Result() }
}

var goRedis = parts{
	"connect": func(s *story) {
		client := redis.NewClient(&redis.Options{Addr: s.address, ClientName: "story"})
		same(good(client.Ping(background).Result()), "PONG")
		same(good(client.ClientGetName(background).Result()), "story")
		if !strings.Contains(good(client.Info(background).Result()), "redis_version:") {
			panic("no version")
		}
	},
	"data": func(s *story) {
		client := connect(s)
		same(good(client.Set(background, s.key("a"), "\x00\r\n\xff", time.Hour).Result()), "OK")
		same(good(client.Get(background, s.key("a")).Result()), "\x00\r\n\xff")
		same(good(client.HSet(background, s.key("h"), "f", 1, "g", "two").Result()), int64(2))
		same(good(client.HGetAll(background, s.key("h")).Result()), map[string]string{"f": "1", "g": "two"})
		ok(client.ZAdd(background, s.key("z"), redis.Z{Score: 2.5, Member: "two"}).Err())
		same(good(client.ZRangeWithScores(background, s.key("z"), 0, -1).Result()), []redis.Z{{Score: 2.5, Member: "two"}})
		all := names(s, 100)
		for _, name := range all {
			ok(client.Set(background, name, name, 0).Err())
		}
		for n, value := range good(client.MGet(background, all...).Result()) {
			same(value, all[n])
		}
		same(client.Get(background, s.key("none")).Err(), redis.Nil)
		fails(client.Incr(background, s.key("h")).Err(), "WRONGTYPE")
		same(good(client.Del(background, all...).Result()), int64(100))
	},
	"pipeline": func(s *story) {
		found := good(connect(s).Pipelined(background, func(pipe redis.Pipeliner) error {
			for n := range 100 {
				pipe.Set(background, s.key(n), n, 0)
				pipe.Incr(background, s.key(n))
			}
			return nil
		}))
		for n := range 100 {
			same(found[2*n+1].(*redis.IntCmd).Val(), int64(n+1))
		}
	},
	"transaction": func(s *story) {
		client, key := connect(s), s.tagged("a")
		var number *redis.IntCmd
		_, err := client.TxPipelined(background, func(pipe redis.Pipeliner) error {
			pipe.Set(background, key, 1, 0)
			number = pipe.Incr(background, key)
			return nil
		})
		ok(err)
		same(number.Val(), int64(2))
		_, err = client.TxPipelined(background, func(pipe redis.Pipeliner) error {
			pipe.Set(background, key, "x", 0)
			pipe.Incr(background, key)
			return nil
		})
		fails(err, "not an integer")
		_, err = client.TxPipelined(background, func(pipe redis.Pipeliner) error {
			pipe.Set(background, key, "y", 0)
			pipe.Do(background, "GET")
			return nil
		})
		fails(err, "EXECABORT")
		same(good(client.Get(background, key).Result()), "x")
	},
	"watch": func(s *story) {
		client, key := connect(s), s.tagged("n")
		ok(client.Set(background, key, 5, 0).Err())
		try := func(between func()) error {
			return client.Watch(background, func(tx *redis.Tx) error {
				value := good(tx.Get(background, key).Int())
				between()
				_, err := tx.TxPipelined(background, func(pipe redis.Pipeliner) error {
					pipe.Set(background, key, value+1, 0)
					return nil
				})
				return err
			}, key)
		}
		if err := try(func() { ok(client.Incr(background, key).Err()) }); !errors.Is(err, redis.TxFailedErr) {
			panic(err)
		}
		ok(try(func() {}))
		same(good(client.Get(background, key).Result()), "7")
	},
	"transaction_over_shards": func(s *story) {
		_, err := connect(s).TxPipelined(background, func(pipe redis.Pipeliner) error {
			for n := range 100 {
				pipe.Incr(background, s.key(n))
			}
			return nil
		})
		ok(err)
	},
	"pubsub": func(s *story) {
		client := connect(s)
		channels := names(s, 10)
		listener := client.Subscribe(background, channels...)
		for range channels {
			good(listener.Receive(background))
		}
		ok(listener.PSubscribe(background, s.key("*9")))
		good(listener.Receive(background))
		messages := listener.Channel()
		for n, channel := range channels {
			wanted := int64(1)
			if n == 9 {
				wanted = 2
			}
			same(good(client.Publish(background, channel, n).Result()), wanted)
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
		same(len(seen), 10)
		ok(listener.Close())
		eventually(func() bool { return client.Publish(background, channels[0], "x").Val() == 0 })
	},
	"blocking": func(s *story) {
		client, queue := connect(s), s.tagged("q")
		same(client.BLPop(background, time.Second, queue).Err(), redis.Nil)
		go func() {
			time.Sleep(100 * time.Millisecond)
			client.RPush(background, queue, "later")
		}()
		same(good(client.BLPop(background, 20*time.Second, s.tagged("none"), queue).Result()), []string{queue, "later"})
		found := make(chan bool)
		go func() {
			for { // what is added before it waits is none of its business
				select {
				case <-found:
					return
				case <-time.After(50 * time.Millisecond):
					client.XAdd(background, &redis.XAddArgs{Stream: s.tagged("x"), Values: []any{"f", "v"}})
				}
			}
		}()
		read := good(client.XRead(background, &redis.XReadArgs{Streams: []string{s.tagged("x"), "$"}, Block: 20 * time.Second}).Result())
		close(found)
		same(read[0].Messages[0].Values, map[string]any{"f": "v"})
	},
	"scan": func(s *story) {
		client, found := connect(s), map[string]bool{}
		for _, name := range names(s, 500) {
			ok(client.Set(background, name, 1, 0).Err())
		}
		keys := client.Scan(background, 0, s.key("*"), 20).Iterator()
		for keys.Next(background) {
			found[keys.Val()] = true
		}
		ok(keys.Err())
		same(len(found), 500)
	},
	"keyspace": func(s *story) {
		client := connect(s)
		for _, name := range names(s, 50) {
			ok(client.Set(background, name, 1, 0).Err())
		}
		same(len(good(client.Keys(background, s.key("*")).Result())), 50)
		ok(client.FlushDB(background).Err())
		same(good(client.DBSize(background).Result()), int64(0))
	},
	"scripts": func(s *story) {
		client := connect(s)
		same(good(client.Eval(background, "return redis.call('INCRBY', KEYS[1], ARGV[1])", []string{s.key("n")}, 5).Result()), int64(5))
	},
	"script_cache": func(s *story) {
		client := connect(s)
		plus := redis.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1])") // EVALSHA, then EVAL
		for n := range 40 {
			same(good(plus.Run(background, client, []string{s.key(n)}, n).Result()), int64(n))
		}
		digest := good(client.ScriptLoad(background, "return ARGV[1]").Result())
		for n := range 40 {
			same(good(client.EvalSha(background, digest, []string{s.key(n)}, n).Result()), fmt.Sprint(n))
		}
	},
	"script_without_keys": func(s *story) {
		same(good(connect(s).Eval(background, "return 7", nil).Result()), int64(7))
	},
	"streams": func(s *story) {
		client, key := connect(s), s.key("x")
		id := good(client.XAdd(background, &redis.XAddArgs{Stream: key, Values: []any{"f", "v"}}).Result())
		ok(client.XGroupCreate(background, key, "g", "0").Err())
		read := good(client.XReadGroup(background, &redis.XReadGroupArgs{Group: "g", Consumer: "one", Streams: []string{key, ">"}, Block: -1}).Result())
		same(read[0].Messages[0].ID, id)
		same(good(client.XAck(background, key, "g", id).Result()), int64(1))
	},
	"databases": func(s *story) {
		client, other := connect(s), redis.NewClient(&redis.Options{Addr: s.address, DB: 3})
		ok(client.Set(background, s.key("a"), "in 0", 0).Err())
		same(other.Get(background, s.key("a")).Err(), redis.Nil)
		ok(other.Set(background, s.key("a"), "in 3", 0).Err())
		same(good(client.Get(background, s.key("a")).Result()), "in 0")
	},
	// To this client the proxy is one node with all slots.
	"cluster": func(s *story) {
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.address}})
		for _, name := range names(s, 100) {
			ok(client.Set(background, name, name, 0).Err())
			same(good(client.Get(background, name).Result()), name)
		}
		same(good(client.Eval(background, "return redis.call('INCRBY', KEYS[1], ARGV[1])", []string{s.key("n")}, 5).Result()), int64(5))
		_, err := client.TxPipelined(background, func(pipe redis.Pipeliner) error {
			pipe.Set(background, s.tagged("a"), 1, 0)
			pipe.Incr(background, s.tagged("a"))
			return nil
		})
		ok(err)
		same(good(client.Get(background, s.tagged("a")).Result()), "2")
	},
	"failover": func(s *story) { client := connect(s); s.goOn(set(client), get(client)) },
	"restart":  func(s *story) { client := connect(s); s.comeBack(set(client), get(client)) },
}
