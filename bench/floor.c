// The floor: the least that any runtime has to do for a container, and nothing else. It reads no
// JSON, checks nothing, sets no limit, no capability, no seccomp filter and no device, and keeps no
// state. What a runtime takes longer than this is what its safety and its comfort cost.
//
//   floor [--steps] [--cgroup DIR] [--tasks DIR]... --rootfs DIR --namespaces FLAGS [--hostname NAME]
//         [--mount TYPE SOURCE TARGET FLAGS DATA]... -- PROGRAM [ARGUMENT]...
//
// DIR of --cgroup is a cgroup2 directory; it is made, the child is cloned into it, it is removed.
// DIR of --tasks is a directory of a v1 hierarchy; the child enters it by writing to its tasks file.
// FLAGS are numbers of clone(2) and mount(2). TARGET lies below the rootfs and is written relative to
// it ("dev/pts"). A directory that is missing on a tmpfs mounted before (dev/pts, dev/shm) is made.
// A bind mount with further flags (ro, nosuid) is remounted, as the kernel demands.
//
// --steps prints how long each step took, in microseconds, to standard error. The clock is read in
// any case (20 ns a step), so that both ways of running do the same.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOUNTS_MAX = 64, HIERARCHIES_MAX = 16, STEPS_MAX = MOUNTS_MAX + 16 };

struct mount_entry {
    const char *type, *source, *target, *data;
    unsigned long flags;
};

// Lives in a shared page, because the child's steps are printed by the parent.
struct step {
    const char *name;
    uint64_t at;
};

static struct step *steps;
static int *step_count;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void step(const char *name) {
    steps[*step_count] = (struct step){name, now()};
    *step_count += 1;
}

static void fail(const char *what, const char *which) {
    fprintf(stderr, "floor: %s %s: %s\n", what, which, strerror(errno));
    _exit(125);
}

// "0" is the writer itself; a single-threaded process that moves itself by `tasks` takes no global lock.
static void enter(const char *directory) {
    char path[512];
    snprintf(path, sizeof path, "%s/tasks", directory);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1) fail("enter", path);
    close(fd);
}

static void mount_one(const struct mount_entry *m) {
    // The target is relative, and the working directory is the rootfs; no container is untrusted here.
    if (mkdir(m->target, 0755) < 0 && errno != EEXIST) fail("mkdir", m->target);
    const char *type = m->flags & MS_BIND ? NULL : m->type;
    unsigned long first = m->flags & MS_BIND ? m->flags & (MS_BIND | MS_REC) : m->flags;
    if (mount(m->source, m->target, type, first, *m->data ? m->data : NULL) < 0) fail("mount", m->target);
    if (m->flags & MS_BIND && m->flags & ~(unsigned long)(MS_BIND | MS_REC))
        if (mount(NULL, m->target, NULL, m->flags | MS_REMOUNT, NULL) < 0) fail("remount", m->target);
    step(m->target);
}

static void child(const char *rootfs, const char *hostname, const struct mount_entry *mounts, int count,
                  const char **tasks, int hierarchies, char **argv) {
    step("clone3");
    for (int i = 0; i < hierarchies; i++) enter(tasks[i]);
    if (hierarchies) step("enter v1 cgroups");
    // Without this, pivot_root is refused on a shared root and the mounts would appear on the host.
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) fail("mount --make-rprivate", "/");
    step("rprivate");
    // pivot_root wants a mount point.
    if (mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL) < 0) fail("bind", rootfs);
    if (chdir(rootfs) < 0) fail("chdir", rootfs);
    step("bind rootfs");
    for (int i = 0; i < count; i++) mount_one(&mounts[i]);
    if (syscall(SYS_pivot_root, ".", ".") < 0) fail("pivot_root", rootfs);
    if (umount2(".", MNT_DETACH) < 0) fail("umount2", "the old root");
    if (chdir("/") < 0) fail("chdir", "/");
    step("pivot_root");
    if (hostname && sethostname(hostname, strlen(hostname)) < 0) fail("sethostname", hostname);
    step("hostname");
    execv(argv[0], argv);
    fail("execve", argv[0]);
}

int main(int argc, char **argv) {
    uint64_t start = now();
    struct mount_entry mounts[MOUNTS_MAX];
    const char *tasks[HIERARCHIES_MAX], *cgroup = NULL, *rootfs = NULL, *hostname = NULL;
    unsigned long long namespaces = 0;
    int count = 0, hierarchies = 0, print = 0, i = 1;
    for (; i < argc && strcmp(argv[i], "--"); i++) {
        if (!strcmp(argv[i], "--steps")) print = 1;
        else if (!strcmp(argv[i], "--cgroup") && i + 1 < argc) cgroup = argv[++i];
        else if (!strcmp(argv[i], "--tasks") && i + 1 < argc && hierarchies < HIERARCHIES_MAX) tasks[hierarchies++] = argv[++i];
        else if (!strcmp(argv[i], "--rootfs") && i + 1 < argc) rootfs = argv[++i];
        else if (!strcmp(argv[i], "--hostname") && i + 1 < argc) hostname = argv[++i];
        else if (!strcmp(argv[i], "--namespaces") && i + 1 < argc) namespaces = strtoull(argv[++i], NULL, 0);
        else if (!strcmp(argv[i], "--mount") && i + 5 < argc && count < MOUNTS_MAX) {
            mounts[count++] = (struct mount_entry){.type = argv[i + 1],
                                                   .source = argv[i + 2],
                                                   .target = argv[i + 3],
                                                   .flags = strtoul(argv[i + 4], NULL, 0),
                                                   .data = argv[i + 5]};
            i += 5;
        } else {
            fprintf(stderr, "floor: unexpected argument %s\n", argv[i]);
            return 125;
        }
    }
    if (!rootfs || i + 1 >= argc) {
        fprintf(stderr, "floor: --rootfs and a program are needed\n");
        return 125;
    }

    size_t size = STEPS_MAX * sizeof(struct step) + sizeof(int);
    steps = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (steps == MAP_FAILED) fail("mmap", "steps");
    step_count = (int *)(steps + STEPS_MAX);

    int directory = -1;
    if (cgroup) {
        if (mkdir(cgroup, 0755) < 0) fail("mkdir", cgroup);
        directory = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0) fail("open", cgroup);
    }
    for (int t = 0; t < hierarchies; t++)
        if (mkdir(tasks[t], 0755) < 0) fail("mkdir", tasks[t]);
    step("mkdir cgroup");

    struct clone_args args = {.flags = namespaces, .exit_signal = SIGCHLD};
    if (cgroup) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)directory;
    }
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0) fail("clone3", cgroup ? cgroup : "");
    if (pid == 0) child(rootfs, hostname, mounts, count, tasks, hierarchies, argv + i + 1);

    int status;
    if (waitpid((pid_t)pid, &status, 0) < 0) fail("waitpid", "child");
    step("exec, run, exit");
    if (cgroup && rmdir(cgroup) < 0) fail("rmdir", cgroup);
    for (int t = 0; t < hierarchies; t++)
        if (rmdir(tasks[t]) < 0) fail("rmdir", tasks[t]);
    step("rmdir cgroup");

    if (print) {
        uint64_t before = start;
        for (int s = 0; s < *step_count; s++) {
            fprintf(stderr, "%s\t%.1f\n", steps[s].name, (double)(steps[s].at - before) / 1000);
            before = steps[s].at;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
