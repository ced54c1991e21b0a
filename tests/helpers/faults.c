/* Stands between a process and the C library where files below one folder are written: counts the calls, and at the
   n-th one fails, writes by half, or ends the process. Built and spoken to by faults.py; put in place by LD_PRELOAD.
   What a library asks of the kernel without the C library passes unseen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING, FAIL, FAIL_FROM_HERE, SHORT, HALF_THEN_FAIL, KILL, HALF_THEN_KILL };

static char root[PATH_MAX];
static long calls, target;
static int kind, code, hollow_locks, armed;
static char seen[1 << 16];
static size_t used;

/* From now on the n-th call that writes below the folder is met by this; 0 counts only. */
void faults_arm(const char *folder, long at, int what, int error) {
  strncpy(root, folder, sizeof root - 1);
  calls = 0, target = at, kind = what, code = error, armed = 1, used = 0, seen[0] = 0;
}
void faults_disarm(void) { armed = 0; }
long faults_calls(void) { return calls; }
/* Which calls they were: one letter each: open, write, ftruncate (t), fsync (s), rename, link, unlink,
   mkdir. */
const char *faults_seen(void) { return seen; }
/* Locks that exclude nobody, as some network file systems have them. */
void faults_hollow_locks(int on) { hollow_locks = on; }

static int below(const char *path) {
  size_t n = strlen(root);
  return armed && n && !strncmp(path, root, n) && (path[n] == '/' || !path[n]);
}

static int fd_below(int fd) {
  char link[64], path[PATH_MAX];
  if (!armed) return 0;
  int kept = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  errno = kept;
  if (n < 0) return 0;
  path[n] = 0;
  return below(path);
}

static int path_below(int folder, const char *name) {
  char path[PATH_MAX];
  if (!armed || !name) return 0;
  if (name[0] == '/') return below(name);
  if (folder != AT_FDCWD) return fd_below(folder);
  int kept = errno, found = getcwd(path, sizeof path) && below(path);
  errno = kept;
  return found;
}

/* What is to be done with this call: 0 go on, -1 fail with errno, 1 do the half of it. */
static int meet(char letter, int can_half) {
  if (used < sizeof seen - 1) seen[used++] = letter, seen[used] = 0;
  long now = ++calls;
  if (!target || now < target) return 0;
  if (now > target) {
    int goes_on = kind == FAIL_FROM_HERE || (kind == HALF_THEN_FAIL && now == target + 1);
    if (!goes_on || letter == 'u' || letter == 't') return 0; /* a full disk lets go of what is there */
    errno = code;
    return -1;
  }
  switch (kind) {
    case FAIL: case FAIL_FROM_HERE: errno = code; return -1;
    case SHORT: case HALF_THEN_FAIL: return can_half;
    case HALF_THEN_KILL: if (can_half) return 1; /* else as below */
    case KILL: raise(SIGKILL);
  }
  return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRITES(flags) ((flags) & (O_CREAT | O_TRUNC) || ((flags) & O_ACCMODE) != O_RDONLY)

#define OPEN(name)                                                        \
  int name(const char *path, int flags, ...) {                            \
    va_list more; va_start(more, flags);                                  \
    mode_t mode = va_arg(more, mode_t); va_end(more);                     \
    if (WRITES(flags) && path_below(AT_FDCWD, path) && meet('o', 0)) return -1; \
    return REAL(name)(path, flags, mode);                                 \
  }
OPEN(open) OPEN(open64)
#define OPENAT(name)                                                      \
  int name(int folder, const char *path, int flags, ...) {                \
    va_list more; va_start(more, flags);                                  \
    mode_t mode = va_arg(more, mode_t); va_end(more);                     \
    if (WRITES(flags) && path_below(folder, path) && meet('o', 0)) return -1; \
    return REAL(name)(folder, path, flags, mode);                         \
  }
OPENAT(openat) OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t n) {
  if (fd_below(fd)) {
    int what = meet('w', n > 1);
    if (what < 0) return -1;
    if (what > 0) {
      ssize_t done = REAL(write)(fd, data, n / 2);
      if (kind == HALF_THEN_KILL) raise(SIGKILL);
      return done;
    }
  }
  return REAL(write)(fd, data, n);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
  if (fd_below(fd) && meet('w', 0) < 0) return -1;
  return REAL(writev)(fd, parts, n);
}
#define PWRITE(name, type)                                                \
  ssize_t name(int fd, const void *data, size_t n, type at) {             \
    if (fd_below(fd)) {                                                   \
      int what = meet('w', n > 1);                                        \
      if (what < 0) return -1;                                            \
      if (what > 0) {                                                     \
        ssize_t done = REAL(name)(fd, data, n / 2, at);                   \
        if (kind == HALF_THEN_KILL) raise(SIGKILL);                       \
        return done;                                                      \
      }                                                                   \
    }                                                                     \
    return REAL(name)(fd, data, n, at);                                   \
  }
PWRITE(pwrite, off_t) PWRITE(pwrite64, off64_t)
#define SENDFILE(name, type)                                              \
  ssize_t name(int out, int in, type *at, size_t n) {                     \
    if (fd_below(out) && meet('w', 0) < 0) return -1;                     \
    return REAL(name)(out, in, at, n);                                    \
  }
ssize_t sendfile(int, int, off_t *, size_t);
ssize_t sendfile64(int, int, off64_t *, size_t);
SENDFILE(sendfile, off_t) SENDFILE(sendfile64, off64_t)
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags) {
  if (fd_below(out) && meet('w', 0) < 0) return -1;
  return REAL(copy_file_range)(in, from, out, to, n, flags);
}

#define ONE(name, letter, arguments, inside, call)                        \
  int name arguments {                                                    \
    if ((inside) && meet(letter, 0)) return -1;                           \
    return REAL(name) call;                                               \
  }
int renameat2(int, const char *, int, const char *, unsigned);
ONE(ftruncate, 't', (int fd, off_t n), fd_below(fd), (fd, n))
ONE(ftruncate64, 't', (int fd, off64_t n), fd_below(fd), (fd, n))
ONE(fsync, 's', (int fd), fd_below(fd), (fd))
ONE(fdatasync, 's', (int fd), fd_below(fd), (fd))
ONE(rename, 'r', (const char *a, const char *b), path_below(AT_FDCWD, b), (a, b))
ONE(renameat, 'r', (int x, const char *a, int y, const char *b), path_below(y, b), (x, a, y, b))
ONE(renameat2, 'r', (int x, const char *a, int y, const char *b, unsigned f), path_below(y, b), (x, a, y, b, f))
ONE(link, 'l', (const char *a, const char *b), path_below(AT_FDCWD, b), (a, b))
ONE(linkat, 'l', (int x, const char *a, int y, const char *b, int f), path_below(y, b), (x, a, y, b, f))
ONE(symlink, 'l', (const char *a, const char *b), path_below(AT_FDCWD, b), (a, b))
ONE(unlink, 'u', (const char *a), path_below(AT_FDCWD, a), (a))
ONE(unlinkat, 'u', (int x, const char *a, int f), path_below(x, a), (x, a, f))
ONE(rmdir, 'u', (const char *a), path_below(AT_FDCWD, a), (a))
int mkdir(const char *a, mode_t m) {
  if (path_below(AT_FDCWD, a) && meet('m', 0)) return -1;
  return REAL(mkdir)(a, m);
}
int mkdirat(int x, const char *a, mode_t m) {
  if (path_below(x, a) && meet('m', 0)) return -1;
  return REAL(mkdirat)(x, a, m);
}

int flock(int fd, int how) { return hollow_locks ? 0 : REAL(flock)(fd, how); }
