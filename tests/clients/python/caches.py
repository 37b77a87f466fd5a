"""What applications use caches through: Django, Flask-Caching and dogpile.cache.

The option is the library below: ``redis``, ``pymemcache`` or ``pylibmc``; ``binary`` behind the latter is for
Django.
"""

import time
from typing import Any

from story import Story, run

DJANGO = {
    "redis": "django.core.cache.backends.redis.RedisCache",
    "pymemcache": "django.core.cache.backends.memcached.PyMemcacheCache",
    "pylibmc": "django.core.cache.backends.memcached.PyLibMCCache",
}


def django_cache(story: Story) -> Any:
    import django
    from django.conf import settings

    library = story.options[0]
    place = f"redis://127.0.0.1:{story.port}" if library == "redis" else f"127.0.0.1:{story.port}"
    cache: dict[str, Any] = {"BACKEND": DJANGO[library], "LOCATION": place, "KEY_PREFIX": story.prefix}
    if "binary" in story.options:
        cache["OPTIONS"] = {"binary": True}
    settings.configure(
        CACHES={"default": cache},
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        SECRET_KEY="of no use to anybody",
        USE_TZ=True,
    )
    django.setup()
    from django.core.cache import cache as made

    return made


def django(story: Story) -> None:
    cache = django_cache(story)
    cache.set("a", {"nested": [1, 2]}, 1000)
    assert cache.get("a") == {"nested": [1, 2]}
    assert cache.add("b", 1) is True
    assert cache.add("b", 2) is False
    assert cache.incr("b", 5) == 6
    assert cache.decr("b") == 5
    assert cache.touch("b", 1000) is True
    assert cache.touch("none") is False
    assert cache.get_or_set("c", lambda: "made", 100) == "made"
    assert cache.get("none", "default") == "default"
    assert "a" in cache
    assert cache.delete("a") is True
    assert cache.delete("a") is False
    assert cache.get_many([f"m{n}" for n in range(50)]) == {}
    assert cache.get("d") is None
    cache.set("expires", 1, 1)
    limit = time.monotonic() + 10
    while cache.get("expires") is not None:
        assert time.monotonic() < limit
        time.sleep(0.05)


def django_many(story: Story) -> None:
    """set_many with a time to live is a transaction over keys of all shards, on Redis."""
    cache = django_cache(story)
    values = {f"m{n}": n for n in range(50)}
    assert cache.set_many(values, 1000) == []
    assert cache.get_many([*values, "none"]) == values
    cache.delete_many(list(values)[:25])
    assert cache.get_many(values) == dict(list(values.items())[25:])


def django_clear(story: Story) -> None:
    cache = django_cache(story)
    cache.set("a", 1)
    cache.clear()
    assert cache.get("a") is None
    cache.set("a", 2)
    assert cache.get("a") == 2


def django_failover(story: Story) -> None:
    cache = django_cache(story)
    story.go_on(lambda key, value: cache.set(key, value, 1000), cache.get)


def django_session(story: Story) -> None:
    django_cache(story)
    from django.contrib.sessions.backends.cache import SessionStore

    session = SessionStore()
    session["user"] = 7
    session.save()
    again = SessionStore(session_key=session.session_key)
    assert again["user"] == 7
    again["more"] = [1]
    again.cycle_key()
    again.save()
    assert SessionStore(session_key=again.session_key)["more"] == [1]
    assert not SessionStore().exists(session.session_key)
    again.flush()
    assert not SessionStore().exists(again.session_key)


def flask(story: Story) -> None:
    from flask import Flask
    from flask_caching import Cache

    if story.options[0] == "redis":
        options: dict[str, Any] = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_PORT": story.port}
        options |= {"CACHE_REDIS_HOST": "127.0.0.1"}
    else:
        options = {"CACHE_TYPE": "MemcachedCache", "CACHE_MEMCACHED_SERVERS": [f"127.0.0.1:{story.port}"]}
    app = Flask("story")
    cache = Cache(app, config={**options, "CACHE_KEY_PREFIX": story.prefix})
    calls = []

    @cache.memoize(100)
    def slow(n: int) -> int:
        calls.append(n)
        return n * 2

    with app.app_context():
        assert [slow(n % 5) for n in range(20)] == [n % 5 * 2 for n in range(20)]
        assert len(calls) == 5
        cache.delete_memoized(slow, 3)
        assert slow(3) == 6
        assert len(calls) == 6
        assert cache.set("a", [1])
        assert cache.get("a") == [1]
        assert cache.add("a", 2) is False
        assert cache.get_many("a", "none") == [[1], None]
        assert cache.delete("a")
        assert cache.get("a") is None


def flask_many(story: Story) -> None:
    from cachelib import MemcachedCache, RedisCache

    if story.options[0] == "redis":
        cache: Any = RedisCache("127.0.0.1", story.port, key_prefix=story.prefix)
    else:
        cache = MemcachedCache([f"127.0.0.1:{story.port}"], key_prefix=story.prefix)
    assert cache.set_many({f"k{n}": n for n in range(50)}, timeout=100)
    assert cache.get_many(*[f"k{n}" for n in range(50)]) == list(range(50))


def dogpile_region(story: Story, **more: Any) -> Any:
    from dogpile.cache import make_region

    if story.options[0] == "redis":
        arguments: dict[str, Any] = {"host": "127.0.0.1", "port": story.port, **more}
    else:
        arguments = {"url": f"127.0.0.1:{story.port}", **more}
    region = make_region(key_mangler=lambda name: f"{story.prefix}:{name}")
    return region.configure(f"dogpile.cache.{story.options[0]}", expiration_time=1000, arguments=arguments)


def dogpile(story: Story) -> None:
    region = dogpile_region(story)
    made = []
    assert [region.get_or_create(f"k{n % 5}", lambda: made.append(1) or len(made)) for n in range(10)] == [
        *range(1, 6),
        *range(1, 6),
    ]
    assert not region.get("none")
    region.delete("k0")
    assert not region.get("k0")
    assert [bool(value) for value in region.get_multi(["k0", "k1", "k2"])] == [False, True, True]


def dogpile_many(story: Story) -> None:
    region = dogpile_region(story, **({"redis_expiration_time": 2000} if story.options[0] == "redis" else {}))
    region.set_multi({f"m{n}": n for n in range(50)})
    assert region.get_multi([f"m{n}" for n in range(50)]) == list(range(50))
    region.delete_multi([f"m{n}" for n in range(50)])
    assert not any(region.get_multi([f"m{n}" for n in range(50)]))


def dogpile_lock(story: Story) -> None:
    region = dogpile_region(story, distributed_lock=True)
    assert region.get_or_create("k", lambda: 7) == 7
    mutex = region.backend.get_mutex(f"{story.prefix}:l")
    assert mutex.acquire(True)
    assert not region.backend.get_mutex(f"{story.prefix}:l").acquire(False)
    mutex.release()
    assert region.backend.get_mutex(f"{story.prefix}:l").acquire(False)


if __name__ == "__main__":
    run(
        {
            "django": django,
            "django_many": django_many,
            "django_clear": django_clear,
            "django_session": django_session,
            "django_failover": django_failover,
            "flask": flask,
            "flask_many": flask_many,
            "dogpile": dogpile,
            "dogpile_many": dogpile_many,
            "dogpile_lock": dogpile_lock,
            # The same, where they are no transactions.
            "many": lambda story: (django_many(story), flask_many(story), dogpile_many(story)),
            "clear": django_clear,
        }
    )
