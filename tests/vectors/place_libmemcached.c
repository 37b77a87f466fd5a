/*
 * Prints where libmemcached puts keys, one server position per line.
 *
 * Compiled and called by make_libmemcached.py:
 *     place weighted|unweighted HASH HOST PORT WEIGHT [HOST PORT WEIGHT ...] < keys
 * Each line of standard input is a key in hexadecimal. A HOST that begins with "/" is a unix
 * socket. No server is contacted.
 */
#include <libmemcached/memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    memcached_hash_t value;
} HASHES[] = {
    {"one_at_a_time", MEMCACHED_HASH_DEFAULT},
    {"md5", MEMCACHED_HASH_MD5},
    {"crc32", MEMCACHED_HASH_CRC},
    {"fnv1_64", MEMCACHED_HASH_FNV1_64},
    {"fnv1a_64", MEMCACHED_HASH_FNV1A_64},
    {"fnv1_32", MEMCACHED_HASH_FNV1_32},
    {"fnv1a_32", MEMCACHED_HASH_FNV1A_32},
    {"hsieh", MEMCACHED_HASH_HSIEH},
    {"murmur", MEMCACHED_HASH_MURMUR},
    {"jenkins", MEMCACHED_HASH_JENKINS},
};

static void set_or_exit(memcached_st *client, memcached_behavior_t behavior, uint64_t value)
{
    if (memcached_behavior_set(client, behavior, value) != MEMCACHED_SUCCESS) {
        fprintf(stderr, "not in this libmemcached: behavior %d, value %llu\n", (int)behavior,
                (unsigned long long)value);
        exit(3);
    }
}

int main(int argc, char **argv)
{
    if (argc < 6 || argc % 3 != 0) {
        fprintf(stderr, "usage: %s weighted|unweighted HASH HOST PORT WEIGHT ...\n", argv[0]);
        return 2;
    }
    memcached_st *client = memcached_create(NULL);
    if (strcmp(argv[1], "weighted") == 0) {
        set_or_exit(client, MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED, 1);
    } else {
        set_or_exit(client, MEMCACHED_BEHAVIOR_KETAMA, 1);
        size_t i = 0;
        while (i < sizeof HASHES / sizeof *HASHES && strcmp(HASHES[i].name, argv[2]) != 0)
            i++;
        if (i == sizeof HASHES / sizeof *HASHES)
            return 2;
        set_or_exit(client, MEMCACHED_BEHAVIOR_HASH, HASHES[i].value);
    }
    for (int i = 3; i < argc; i += 3) {
        uint32_t weight = (uint32_t)atoi(argv[i + 2]);
        memcached_return_t result = argv[i][0] == '/'
            ? memcached_server_add_unix_socket_with_weight(client, argv[i], weight)
            : memcached_server_add_with_weight(client, argv[i], (in_port_t)atoi(argv[i + 1]), weight);
        if (result != MEMCACHED_SUCCESS)
            return 4;
    }
    char line[8192];
    while (fgets(line, sizeof line, stdin)) {
        char key[4096];
        size_t length = strcspn(line, "\n") / 2;
        for (size_t i = 0; i < length; i++) {
            unsigned int byte;
            if (sscanf(line + 2 * i, "%2x", &byte) != 1)
                return 5;
            key[i] = (char)byte;
        }
        printf("%u\n", memcached_generate_hash(client, key, length));
    }
    memcached_free(client);
    return 0;
}
