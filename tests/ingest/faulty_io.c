/* Preloaded into a process: counts its I/O calls on files below one directory, and makes the Nth fail, or kills at it.
 *
 * Below every library, so that SQLite's own calls are among them. Also writes down what is written and synced, from
 * which the states after a power cut are made.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, REMOVE = 16, STAT = 32 };
enum { MOST = 4096, NAME = 512 };

static char prefix[NAME];
static char names[MOST][NAME];
static long count, nth;
static int wanted, error_number, for_ever, fired, trace = -1;

void faulty_watch(const char *directory) {
    strncpy(prefix, directory, NAME - 1);
    memset(names, 0, sizeof names);
}
/* number > 0: errno; 0: count only; -1: SIGKILL before the call; -2: SIGKILL after half of a write. */
void faulty_arm(long n, int number, int sticky, int kinds) {
    count = 0, fired = 0, nth = n, error_number = number, for_ever = sticky, wanted = kinds;
}
long faulty_count(void) { return count; }
int faulty_fired(void) { return fired; }
void faulty_trace(int descriptor) { trace = descriptor; }

static int watched(const char *path) { return prefix[0] && path && !strncmp(path, prefix, strlen(prefix)); }
static const char *name_of(int descriptor) {
    return descriptor >= 0 && descriptor < MOST && names[descriptor][0] ? names[descriptor] : NULL;
}
static void note(int descriptor, const char *path) {
    if (descriptor >= 0 && descriptor < MOST) strncpy(names[descriptor], path, NAME - 1);
}
static int fails(int kind) {
    if (!(wanted & kind)) return 0;
    count++;
    if (!nth || count < nth || (count > nth && !for_ever)) return 0;
    fired = 1;
    if (error_number == -1) kill(getpid(), SIGKILL);
    if (error_number > 0) { errno = error_number; return 1; }
    return error_number == -2 ? 2 : 0;
}
static void record(char kind, const char *name, int64_t offset, const void *data, int64_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (trace < 0 || !name) return;
    if (!real) real = dlsym(RTLD_NEXT, "write");
    int64_t header[4] = {kind, (int64_t)strlen(name), offset, size};
    real(trace, header, sizeof header);
    real(trace, name, strlen(name));
    if (data) real(trace, data, (size_t)size);
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)

int open64(const char *path, int flags, ...) {
    REAL(int, "open64", const char *, int, ...);
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if (!watched(path)) return real(path, flags, mode);
    if (fails(OPEN)) return -1;
    int descriptor = real(path, flags, mode);
    note(descriptor, path);
    return descriptor;
}
int open(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    return open64(path, flags, mode);
}
int openat64(int directory, const char *path, int flags, ...) {
    REAL(int, "openat64", int, const char *, int, ...);
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if (!name_of(directory)) return real(directory, path, flags, mode);
    if (fails(OPEN)) return -1;
    int descriptor = real(directory, path, flags, mode);
    note(descriptor, name_of(directory));
    return descriptor;
}
int close(int descriptor) {
    REAL(int, "close", int);
    if (descriptor >= 0 && descriptor < MOST) names[descriptor][0] = 0;
    return real(descriptor);
}
DIR *fdopendir(int descriptor) {
    REAL(DIR *, "fdopendir", int);
    return name_of(descriptor) && fails(OPEN) ? NULL : real(descriptor);
}
ssize_t read(int descriptor, void *data, size_t size) {
    REAL(ssize_t, "read", int, void *, size_t);
    return name_of(descriptor) && fails(READ) ? -1 : real(descriptor, data, size);
}
ssize_t pread64(int descriptor, void *data, size_t size, off64_t offset) {
    REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
    return name_of(descriptor) && fails(READ) ? -1 : real(descriptor, data, size, offset);
}
ssize_t preadv64v2(int descriptor, const struct iovec *parts, int n, off64_t offset, int flags) {
    REAL(ssize_t, "preadv64v2", int, const struct iovec *, int, off64_t, int);
    return name_of(descriptor) && fails(READ) ? -1 : real(descriptor, parts, n, offset, flags);
}
ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!name_of(descriptor)) return real(descriptor, data, size);
    int how = fails(WRITE);
    if (how == 1) return -1;
    if (how == 2) { real(descriptor, data, size / 2); kill(getpid(), SIGKILL); }
    return real(descriptor, data, size);
}
ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (!name_of(descriptor)) return real(descriptor, data, size, offset);
    int how = fails(WRITE);
    /* A full disk takes the first half. */
    if (how == 1) { if (errno == ENOSPC && size > 1) { real(descriptor, data, size / 2, offset); errno = ENOSPC; } return -1; }
    if (how == 2) { real(descriptor, data, size / 2, offset); kill(getpid(), SIGKILL); }
    record('w', name_of(descriptor), offset, data, (int64_t)size);
    return real(descriptor, data, size, offset);
}
int ftruncate64(int descriptor, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    int how = name_of(descriptor) ? fails(WRITE) : 0;
    if (how == 1) return -1;
    if (how == 2) kill(getpid(), SIGKILL);
    record('t', name_of(descriptor), size, NULL, 0);
    return real(descriptor, size);
}
int fsync(int descriptor) {
    REAL(int, "fsync", int);
    if (name_of(descriptor) && fails(SYNC)) return -1;
    record('s', name_of(descriptor), 0, NULL, 0);
    return real(descriptor);
}
int fdatasync(int descriptor) {
    REAL(int, "fdatasync", int);
    if (name_of(descriptor) && fails(SYNC)) return -1;
    record('s', name_of(descriptor), 0, NULL, 0);
    return real(descriptor);
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (!watched(path)) return real(path);
    if (fails(REMOVE)) return -1;
    record('u', path, 0, NULL, 0);
    return real(path);
}
int fstat64(int descriptor, struct stat64 *status) {
    REAL(int, "fstat64", int, struct stat64 *);
    return name_of(descriptor) && fails(STAT) ? -1 : real(descriptor, status);
}
void *mmap64(void *address, size_t size, int protection, int flags, int descriptor, off64_t offset) {
    REAL(void *, "mmap64", void *, size_t, int, int, int, off64_t);
    return name_of(descriptor) && fails(OPEN) ? MAP_FAILED : real(address, size, protection, flags, descriptor, offset);
}
