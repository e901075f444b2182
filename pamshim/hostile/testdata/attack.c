/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * usage: attack PID...
 *
 * Tries everything that one user's process may want to do to another's, and
 * writes a line "PID WHAT" for each attempt that was not refused. KILL comes
 * last.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int refused;

static void judge(pid_t pid, const char *what, long result)
{
	if (result < 0 && (errno == EPERM || errno == EACCES)) {
		refused++;
		return;
	}
	printf("%d %s: %s\n", (int)pid, what, result < 0 ? strerror(errno) : "done");
}

static void files(pid_t pid)
{
	static const struct {
		const char *name;
		int flags;
	} all[] = {
		{"mem", O_RDONLY},
		{"mem", O_RDWR},
		{"environ", O_RDONLY},
		{"maps", O_RDONLY},
		{"auxv", O_RDONLY},
		{"syscall", O_RDONLY},
		{"io", O_RDONLY},
		{"pagemap", O_RDONLY},
		{"clear_refs", O_WRONLY},
		{"oom_score_adj", O_WRONLY},
		{"coredump_filter", O_WRONLY},
		{"comm", O_WRONLY},
		{"fd", O_RDONLY | O_DIRECTORY},
		{"map_files", O_RDONLY | O_DIRECTORY},
		{"cwd", O_RDONLY},
		{"exe", O_RDONLY},
		{"root", O_RDONLY},
		{"ns/mnt", O_RDONLY},
		{"fd/0", O_RDONLY},
		{"fd/3", O_RDONLY},
		{"fd/5", O_RDONLY},
	};
	char path[64];

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		char byte;
		int fd;

		(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, all[i].name);
		fd = open(path, all[i].flags | O_CLOEXEC);
		/* Some check who reads, and not who opens. */
		judge(pid, path,
		      fd < 0 || (all[i].flags & O_DIRECTORY) != 0 || all[i].flags != O_RDONLY ? fd
											      : read(fd, &byte, 1));
		if (fd >= 0)
			(void)close(fd);
	}
}

static void memory(pid_t pid)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};

	judge(pid, "process_vm_readv", process_vm_readv(pid, &here, 1, &there, 1, 0));
	judge(pid, "process_vm_writev", process_vm_writev(pid, &here, 1, &there, 1, 0));
	judge(pid, "ptrace attach", ptrace(PTRACE_ATTACH, pid, NULL, NULL));
	judge(pid, "ptrace seize", ptrace(PTRACE_SEIZE, pid, NULL, NULL));
	judge(pid, "kcmp", syscall(SYS_kcmp, getpid(), pid, 2, 0, 0));
}

static void settings(pid_t pid)
{
	struct rlimit limit = {0, 0};
	struct sched_param param = {0};
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	judge(pid, "prlimit", prlimit(pid, RLIMIT_CPU, &limit, NULL));
	judge(pid, "setpriority", setpriority(PRIO_PROCESS, (id_t)pid, 19));
	judge(pid, "sched_setaffinity", sched_setaffinity(pid, sizeof(cpus), &cpus));
	judge(pid, "sched_setscheduler", sched_setscheduler(pid, SCHED_IDLE, &param));
	judge(pid, "ioprio_set", syscall(SYS_ioprio_set, 1, pid, 3 << 13));
}

static void signals(pid_t pid)
{
	static const int all[] = {0, SIGCONT, SIGHUP, SIGTERM, SIGSTOP, SIGKILL};
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* anybody may */
	union sigval value = {0};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		char what[64];

		(void)snprintf(what, sizeof(what), "signal %d", all[i]);
		judge(pid, what, kill(pid, all[i]));
		judge(pid, what, syscall(SYS_tgkill, pid, pid, all[i]));
		judge(pid, what, sigqueue(pid, all[i], value));
		judge(pid, what, syscall(SYS_pidfd_send_signal, pidfd, all[i], NULL, 0));
		judge(pid, what, kill(-getpgid(pid), all[i]));
	}
	for (int fd = 0; fd < 16; fd++)
		judge(pid, "pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, fd, 0));
	(void)close(pidfd);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		pid_t pid = atoi(argv[i]);

		files(pid);
		memory(pid);
		settings(pid);
	}
	for (int i = 1; i < argc; i++)
		signals(atoi(argv[i]));
	printf("refused %d\n", refused);
	return 0;
}
