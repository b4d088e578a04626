// Runs one program and tells how long it took and how much memory it needed:
//
//   launch MILLISECONDS PROGRAM [ARGUMENT]...
//
// prints "NANOSECONDS MAXRSS STATUS CPU" to standard output: the time from before vfork to after wait4, the
// peak resident memory in KiB, the wait status, and the processor time in microseconds; "timeout" when the program had to be killed. The
// program gets /dev/null as standard input and output and this program's standard error.
//
// MAXRSS and CPU are wait4's: of the program and the descendants that it waited for, the largest one and
// the sum of user and system time. The kernel counts the memory of the process that called exec too, which is why the measuring
// process has to be as small as this one, and why it is C.

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: launch MILLISECONDS PROGRAM [ARGUMENT]...\n");
        return 125;
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) {
        perror("launch: /dev/null");
        return 125;
    }
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t pid = vfork();
    if (pid < 0) {
        perror("launch: vfork");
        return 125;
    }
    if (pid == 0) {
        dup2(null, 0);
        dup2(null, 1);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    struct pollfd exited = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    int late = poll(&exited, 1, atoi(argv[1])) == 0;
    if (late) kill(pid, SIGKILL);
    int status;
    struct rusage usage;
    if (wait4(pid, &status, 0, &usage) < 0) {
        perror("launch: wait4");
        return 125;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (late) {
        puts("timeout");
        return 0;
    }
    long long elapsed = (end.tv_sec - start.tv_sec) * 1000000000ll + (end.tv_nsec - start.tv_nsec);
    long long seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec;
    long long cpu = seconds * 1000000ll + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    printf("%lld %ld %d %lld\n", elapsed, usage.ru_maxrss, status, cpu);
    return 0;
}
