/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "safefile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINKS = 40 };

/* A walk from / to a file. */
struct walk {
	char rest[PATH_MAX]; /* what is still to be walked */
	char done[PATH_MAX]; /* what was walked, for messages */
	int dir;             /* the folder that was reached */
	int links;           /* symbolic links that may still be followed */
	char *why;           /* SAFEFILE_WHY bytes */
};

__attribute__((format(printf, 3, 4))) static int refuse(struct walk *w, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(w->why, SAFEFILE_WHY, format, args);
	va_end(args);
	errno = error;
	return -1;
}

static int failed(struct walk *w, const char *what)
{
	int error = errno;
	char text[128] = "";

	/* GNU's strerror_r returns the text, which may not be in the buffer. */
	return refuse(w, error, "%s: cannot %s: %s", w->done, what, strerror_r(error, text, sizeof(text)));
}

/* trusted checks owner and mode of what was reached. */
static int trusted(struct walk *w, const struct stat *st)
{
	bool link = S_ISLNK(st->st_mode);
	bool sticky = S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) != 0;

	if (st->st_uid != 0 && st->st_uid != geteuid())
		return refuse(w, EPERM, "%s belongs to user %u; it must be root's: chown root '%s'", w->done,
			      (unsigned)st->st_uid, w->done);
	if (!link && !sticky && (st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return refuse(w, EPERM, "%s can be written by others (mode %04o): chmod go-w '%s'", w->done,
			      (unsigned)(st->st_mode & 07777), w->done);
	return 0;
}

/* append adds a component to the path for messages. */
static int append(struct walk *w, const char *name, size_t len)
{
	size_t at = strlen(w->done);

	if (at > 0 && w->done[at - 1] == '/')
		at--;
	if (at + 1 + len + 1 > sizeof(w->done))
		return refuse(w, ENAMETOOLONG, "%s: the path is too long", w->done);
	w->done[at] = '/';
	memcpy(w->done + at + 1, name, len);
	w->done[at + 1 + len] = '\0';
	return 0;
}

/* take cuts the next component off rest. Returns its length, 0 at the end. */
static size_t take(struct walk *w, char name[NAME_MAX + 1])
{
	const char *start = w->rest + strspn(w->rest, "/");
	size_t len = strcspn(start, "/");
	const char *next = start + len + strspn(start + len, "/");

	if (len > NAME_MAX)
		len = NAME_MAX; /* openat will not find it */
	memcpy(name, start, len);
	name[len] = '\0';
	memmove(w->rest, next, strlen(next) + 1);
	return len;
}

static void go_to(struct walk *w, int dir)
{
	if (w->dir >= 0)
		(void)close(w->dir);
	w->dir = dir;
}

/* to_root begins at /, whose own mode counts too. */
static int to_root(struct walk *w)
{
	struct stat st;

	(void)snprintf(w->done, sizeof(w->done), "/");
	go_to(w, open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
	if (w->dir < 0 || fstat(w->dir, &st) != 0)
		return failed(w, "open it");
	return trusted(w, &st);
}

/* follow puts the target of the symbolic link fd before the rest. */
static int follow(struct walk *w, int fd, const char *name)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t len = readlinkat(fd, "", target, sizeof(target) - 1);
	int n;

	if (len < 0)
		return failed(w, "read the link");
	target[len] = '\0';
	n = snprintf(rest, sizeof(rest), "%s/%s", target, w->rest);
	if (w->links-- <= 0 || n < 0 || (size_t)n >= sizeof(rest))
		return refuse(w, ELOOP, "%s: a symbolic link too many", w->done);
	memcpy(w->rest, rest, (size_t)n + 1);
	if (target[0] == '/')
		return to_root(w);
	w->done[strlen(w->done) - strlen(name)] = '\0'; /* stay in this folder */
	return 0;
}

/* enter goes into the folder name, or follows the link of that name. */
static int enter(struct walk *w, const char *name)
{
	struct stat st;
	int fd = openat(w->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), ret = -1;

	if (fd < 0 || fstat(fd, &st) != 0) {
		ret = failed(w, "open it");
		goto out;
	}
	if (trusted(w, &st) != 0)
		goto out;
	if (S_ISLNK(st.st_mode)) {
		ret = follow(w, fd, name);
	} else if (S_ISDIR(st.st_mode)) {
		go_to(w, fd);
		return 0;
	} else {
		ret = refuse(w, ENOTDIR, "%s is not a folder", w->done);
	}
out:
	if (fd >= 0)
		(void)close(fd);
	return ret;
}

/* final opens the file itself and checks what was opened. */
static int final(struct walk *w, const char *name, enum safefile_use use)
{
	int flags = use == SAFEFILE_RUN ? O_PATH : O_RDONLY | O_NONBLOCK | O_NOCTTY;
	int fd = openat(w->dir, name, flags | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == ELOOP)
		return refuse(w, ELOOP, "%s is a symbolic link: name the file itself", w->done);
	if (fd < 0)
		return failed(w, "open it");
	if (fstat(fd, &st) != 0) {
		(void)failed(w, "look at it");
	} else if (S_ISLNK(st.st_mode)) {
		(void)refuse(w, ELOOP, "%s is a symbolic link: name the file itself", w->done);
	} else if (!S_ISREG(st.st_mode)) {
		(void)refuse(w, EINVAL, "%s is not a regular file", w->done);
	} else if (trusted(w, &st) == 0) {
		if (use != SAFEFILE_RUN || faccessat(w->dir, name, X_OK, AT_EACCESS) == 0)
			return fd;
		(void)refuse(w, EACCES, "%s is not executable: chmod a+x '%s'", w->done, w->done);
	}
	flags = errno;
	(void)close(fd);
	errno = flags;
	return -1;
}

static int walk(struct walk *w, enum safefile_use use)
{
	char name[NAME_MAX + 1];
	size_t len;

	if (to_root(w) != 0)
		return -1;
	while ((len = take(w, name)) > 0) {
		if (strcmp(name, ".") == 0)
			continue;
		if (append(w, name, len) != 0)
			return -1;
		if (w->rest[0] == '\0')
			return final(w, name, use);
		if (enter(w, name) != 0)
			return -1;
	}
	return refuse(w, EISDIR, "%s is a folder", w->done);
}

int safefile_open(const char *path, enum safefile_use use, char why[SAFEFILE_WHY])
{
	struct walk w = {.dir = -1, .why = why, .links = use == SAFEFILE_STRICT ? 0 : MAX_LINKS};
	int fd = -1, error;

	why[0] = '\0';
	if (path[0] != '/')
		(void)refuse(&w, EINVAL, "'%.200s' is not an absolute path", path);
	else if (strlen(path) >= sizeof(w.rest))
		(void)refuse(&w, ENAMETOOLONG, "the path of %zu bytes is too long", strlen(path));
	else {
		memcpy(w.rest, path, strlen(path) + 1);
		fd = walk(&w, use);
	}
	error = errno;
	if (w.dir >= 0)
		(void)close(w.dir);
	errno = error;
	return fd;
}
