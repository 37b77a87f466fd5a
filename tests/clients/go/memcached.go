package main

import (
	"errors"
	"fmt"

	"github.com/bradfitz/gomemcache/memcache"
)

var gomemcache = parts{
	"data": func(s *story) {
		client := memcache.New(s.address)
		ok(client.Ping())
		ok(client.Set(&memcache.Item{Key: s.key("a"), Value: []byte("v\r\n"), Flags: 17, Expiration: 1000}))
		item := good(client.Get(s.key("a")))
		same(string(item.Value), "v\r\n")
		same(item.Flags, uint32(17))
		same(client.Add(&memcache.Item{Key: s.key("a")}), memcache.ErrNotStored)
		ok(client.Replace(&memcache.Item{Key: s.key("a"), Value: []byte("b")}))
		ok(client.Append(&memcache.Item{Key: s.key("a"), Value: []byte("c")}))
		ok(client.Prepend(&memcache.Item{Key: s.key("a"), Value: []byte("a")}))
		same(string(good(client.Get(s.key("a"))).Value), "abc")
		ok(client.Touch(s.key("a"), 1000))
		ok(client.Set(&memcache.Item{Key: s.key("n"), Value: []byte("10")}))
		same(good(client.Increment(s.key("n"), 5)), uint64(15))
		same(good(client.Decrement(s.key("n"), 20)), uint64(0))
		ok(client.Delete(s.key("a")))
		_, err := client.Get(s.key("a"))
		same(err, memcache.ErrCacheMiss)
	},
	"many": func(s *story) {
		client, all := memcache.New(s.address), names(s, 100)
		for _, name := range all {
			ok(client.Set(&memcache.Item{Key: name, Value: []byte(name)}))
		}
		found := good(client.GetMulti(append(all, s.key("none"))))
		same(len(found), 100)
		for _, name := range all {
			same(string(found[name].Value), name)
		}
	},
	"cas": func(s *story) {
		client := memcache.New(s.address)
		for n := range 20 {
			key := s.key(n)
			ok(client.Set(&memcache.Item{Key: key, Value: []byte("1")}))
			first, second := good(client.Get(key)), good(client.Get(key))
			first.Value, second.Value = []byte("2"), []byte("3")
			ok(client.CompareAndSwap(first))
			if err := client.CompareAndSwap(second); !errors.Is(err, memcache.ErrCASConflict) {
				panic(fmt.Sprint(err))
			}
		}
	},
	"failover": func(s *story) { client := memcache.New(s.address); s.goOn(store(client), load(client)) },
	"restart":  func(s *story) { client := memcache.New(s.address); s.comeBack(store(client), load(client)) },
}

func store(client *memcache.Client) func(key, value string) error {
	return func(key, value string) error {
		return client.Set(&memcache.Item{Key: key, Value: []byte(value)})
	}
}

func load(client *memcache.Client) func(key string) (string, error) {
	return func(key string) (string, error) {
		item, err := client.Get(key)
		if err != nil {
			return "", err
		}
		return string(item.Value), nil
	}
}
