// Clients of Go in one program: `clients CLIENT PORT PART PREFIX`. tests/clients/README.md says what all
// programs have in common.
package main

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"time"
)

const (
	round = 20  // requests that must go well after an event before it is answered
	keys  = 200 // keys that are written in turn meanwhile
)

type story struct {
	address string
	prefix  string
	lines   chan string
}

type parts map[string]func(*story)

// key is one of this run's own; tagged is one on the shard of all others of its kind.
func (s *story) key(name any) string    { return fmt.Sprintf("%s:%v", s.prefix, name) }
func (s *story) tagged(name any) string { return fmt.Sprintf("{%s}:%v", s.prefix, name) }

func (s *story) begin() {
	s.lines = make(chan string, 100)
	go func() {
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			s.lines <- input.Text()
		}
		s.lines <- "end"
	}()
	fmt.Println("going")
}

func (s *story) heard() string {
	select {
	case line := <-s.lines:
		return line
	default:
		return ""
	}
}

// goOn writes one value after another until "end"; none may fail, and all must be there then.
func (s *story) goOn(write func(key, value string) error, read func(key string) (string, error)) {
	written := map[string]string{}
	number := 0
	step := func() {
		key, value := s.key(number%keys), fmt.Sprint(number)
		ok(write(key, value))
		written[key] = value
		if other := s.key(number * 7 % keys); written[other] != "" {
			same(good(read(other)), written[other])
		}
		number++
	}
	for range round {
		step()
	}
	s.begin()
	for {
		line := s.heard()
		if line == "end" {
			break
		}
		step()
		if line != "" {
			for range round {
				step()
			}
			fmt.Println("after", line)
		}
	}
	for key, value := range written {
		same(good(read(key)), value)
	}
}

// comeBack: the proxy is replaced meanwhile. Requests may fail until then, and none may afterwards.
func (s *story) comeBack(write func(key, value string) error, read func(key string) (string, error)) {
	ok(write(s.key("first"), "1"))
	s.begin()
	for number := 0; ; number++ {
		line := s.heard()
		if line == "end" {
			break
		}
		if write(s.key(number%keys), "1") != nil {
			time.Sleep(20 * time.Millisecond)
		}
		if line != "" {
			eventually(func() bool { return write(s.key("back"), "1") == nil })
			for n := range round {
				ok(write(s.key(n), fmt.Sprint("back", n)))
				same(good(read(s.key(n))), fmt.Sprint("back", n))
			}
			fmt.Println("after", line)
		}
	}
	same(good(read(s.key("first"))), "1")
}

func eventually(condition func() bool) {
	limit := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(limit) {
			panic("not within 20 s")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func ok(err error) {
	if err != nil {
		panic(err)
	}
}

// good is the value; an error ends the program.
func good[T any](value T, err error) T {
	ok(err)
	return value
}

// same compares what was found with what must be.
func same(found, wanted any) {
	if !reflect.DeepEqual(found, wanted) {
		panic(fmt.Sprintf("found %#v, not %#v", found, wanted))
	}
}

func main() {
	clients := map[string]parts{
		"go-redis":      goRedis,
		"rueidis":       rueidisParts(false),
		"rueidis-resp2": rueidisParts(true),
		"gomemcache":    gomemcache,
	}
	if len(os.Args) < 5 {
		fmt.Println("clients CLIENT PORT PART PREFIX")
		os.Exit(2)
	}
	part, found := clients[os.Args[1]][os.Args[3]]
	if !found {
		fmt.Println("no such part")
		os.Exit(2)
	}
	part(&story{address: "127.0.0.1:" + os.Args[2], prefix: os.Args[4]})
}
