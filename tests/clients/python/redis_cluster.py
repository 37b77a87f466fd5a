"""redis-py's and valkey-py's clients of Redis Cluster, to whom the proxy is one node with all slots.

Options as in redis_like.py.
"""

from typing import Any

from redis_like import package, settings, text
from story import Story, run

MANY = 100


def connect(story: Story) -> Any:
    return package(story).RedisCluster(host="127.0.0.1", port=story.port, **settings(story))


def cluster(story: Story) -> None:
    client = connect(story)
    names = [story.key(n) for n in range(MANY)]
    for name in names:
        assert client.set(name, name)
    assert text(client.mget_nonatomic(names)) == names
    with client.pipeline() as pipe:
        for name in names:
            pipe.append(name, "!").get(name)
        assert text(pipe.execute())[1::2] == [f"{name}!" for name in names]
    add = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
    assert client.eval(add, 1, story.key("n"), 5) == 5
    with client.pubsub() as listener:
        listener.subscribe(story.key("channel"))
        assert listener.get_message(timeout=10)["type"] == "subscribe"
        assert client.publish(story.key("channel"), "x") == 1
        assert listener.get_message(timeout=10)["data"] == b"x"
    assert {text(name) for name in client.scan_iter(story.key("*"))} == {*names, story.key("n")}


def failover(story: Story) -> None:
    client = connect(story)
    story.go_on(client.set, lambda key: text(client.get(key)))


if __name__ == "__main__":
    run({"cluster": cluster, "failover": failover})
