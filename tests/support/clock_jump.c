/* Preloaded into a process: its wall clock runs beside the true one by an offset that a file holds.
 *
 * Built and used by support/clock.py. The monotonic clock stays honest. Plain system calls and nothing that
 * allocates: the allocator of redis-server reads the clock before a library can set itself up, on which
 * libfaketime 0.9.10 stands still.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BILLION 1000000000LL

/* The file: the offset in nanoseconds, and how often a clock that was wrong has been read. */
struct shared { int64_t offset; int64_t readings; };
static struct shared *shared;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_JUMP_FILE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *at = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (at != MAP_FAILED) shared = at;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long status = syscall(SYS_clock_gettime, clock, now);
    if (status || !shared || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return status;
    int64_t offset = __atomic_load_n(&shared->offset, __ATOMIC_RELAXED);
    if (!offset) return 0;
    __atomic_add_fetch(&shared->readings, 1, __ATOMIC_RELAXED);
    int64_t total = now->tv_sec * BILLION + now->tv_nsec + offset;
    now->tv_sec = total / BILLION;
    now->tv_nsec = total % BILLION;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (at) *at = exact.tv_sec;
    return exact.tv_sec;
}
