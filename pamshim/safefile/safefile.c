/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "safefile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	MAX_LINKS = 40,
	SHOWN = 180 /* bytes of a path in a reason, which has room for two */
};

/* A walk from / to a file. It lies on the heap: threads of hosts may have as
 * little as 16 KiB of stack. */
struct walk {
	char rest[PATH_MAX];   /* what is still to be walked */
	char done[PATH_MAX];   /* what was walked, for messages */
	char target[PATH_MAX]; /* of a symbolic link */
	int dir;               /* the folder that was reached */
	int links;             /* symbolic links that may still be followed */
	bool strict;           /* none may be */
	char *why;             /* SAFEFILE_WHY bytes */
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

/* shown is of what was walked what a reason has room for: the end. */
static const char *shown(const struct walk *w)
{
	size_t len = strlen(w->done);

	return w->done + (len > SHOWN ? len - SHOWN : 0);
}

static int failed(struct walk *w, const char *what)
{
	int error = errno;
	char text[128] = "";

	/* GNU's strerror_r returns the text, which may not be in the buffer. */
	return refuse(w, error, "%s: cannot %s: %s", shown(w), what, strerror_r(error, text, sizeof(text)));
}

/* trusted checks owner and mode of what was reached. */
static int trusted(struct walk *w, const struct stat *st)
{
	const char *path = shown(w);
	bool link = S_ISLNK(st->st_mode);
	bool sticky = S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) != 0;

	if (st->st_uid != 0 && st->st_uid != geteuid())
		return refuse(w, EPERM, "%s belongs to user %u; it must be root's: chown %sroot '%s'", path,
			      (unsigned)st->st_uid, link ? "-h " : "", path);
	if (!link && !sticky && (st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return refuse(w, EPERM, "%s can be written by others (mode %04o): chmod go-w '%s'", path,
			      (unsigned)(st->st_mode & 07777), path);
	return 0;
}

/* append adds a component to the path for messages. */
static int append(struct walk *w, const char *name, size_t len)
{
	size_t at = strlen(w->done);

	if (at > 0 && w->done[at - 1] == '/')
		at--;
	if (at + 1 + len + 1 > sizeof(w->done))
		return refuse(w, ENAMETOOLONG, "%s: the path is too long from here on", shown(w));
	w->done[at] = '/';
	memcpy(w->done + at + 1, name, len);
	w->done[at + 1 + len] = '\0';
	return 0;
}

/* take cuts the next component off rest, less the slashes around it. Returns
 * its length, 0 at the end, or -1 for one that no file can have. */
static int take(struct walk *w, char name[NAME_MAX + 1])
{
	const char *start = w->rest + strspn(w->rest, "/");
	size_t len = strcspn(start, "/");
	const char *next = start + len + strspn(start + len, "/");

	if (len > NAME_MAX)
		return refuse(w, ENAMETOOLONG, "%s: the name of %zu bytes that follows is too long", shown(w), len);
	memcpy(name, start, len);
	name[len] = '\0';
	memmove(w->rest, next, strlen(next) + 1);
	return (int)len;
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
	ssize_t len = readlinkat(fd, "", w->target, sizeof(w->target));
	size_t rest = strlen(w->rest);

	if (len < 0)
		return failed(w, "read the link");
	if (w->strict)
		return refuse(w, ELOOP, "%s is a symbolic link, and none is followed here", shown(w));
	if (w->links-- <= 0)
		return refuse(w, ELOOP, "%s: more than %d symbolic links", shown(w), MAX_LINKS);
	if ((size_t)len + 1 + rest + 1 > sizeof(w->rest))
		return refuse(w, ENAMETOOLONG, "%s: the path is too long from here on", shown(w));
	memmove(w->rest + len + 1, w->rest, rest + 1);
	memcpy(w->rest, w->target, (size_t)len);
	w->rest[len] = '/';
	if (w->target[0] == '/')
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
		ret = refuse(w, ENOTDIR, "%s is not a folder", shown(w));
	}
out:
	if (fd >= 0)
		(void)close(fd);
	return ret;
}

/* regular checks that what was reached is a file that may be used. */
static int regular(struct walk *w, const struct stat *st)
{
	if (S_ISLNK(st->st_mode))
		return refuse(w, ELOOP, "%s is a symbolic link: name the file itself", shown(w));
	if (!S_ISREG(st->st_mode))
		return refuse(w, EINVAL, "%s is not a regular file", shown(w));
	return trusted(w, st);
}

/* executable checks that we may execute the file. */
static int executable(struct walk *w, const char *name, const struct stat *st)
{
	if ((st->st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0)
		return refuse(w, EACCES, "%s is not executable: chmod a+x '%s'", shown(w), shown(w));
	return faccessat(w->dir, name, X_OK, AT_EACCESS) == 0 ? 0 : failed(w, "execute it");
}

/* readable opens what st describes for reading: nothing is opened but regular
 * files, since opening a FIFO wakes its writer and a device may do anything. */
static int readable(struct walk *w, const char *name, const struct stat *st)
{
	int fd = openat(w->dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
	struct stat now;
	int error;

	if (fd < 0)
		return failed(w, "open it");
	if (fstat(fd, &now) != 0)
		(void)failed(w, "look at it");
	else if (now.st_dev != st->st_dev || now.st_ino != st->st_ino)
		(void)refuse(w, EAGAIN, "%s was replaced at this moment", shown(w));
	else if (regular(w, &now) == 0)
		return fd;
	error = errno;
	(void)close(fd);
	errno = error;
	return -1;
}

/* final looks at the file itself, and then opens it. */
static int final(struct walk *w, const char *name, enum safefile_use use)
{
	int fd = openat(w->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), ret = -1, error;
	struct stat st;

	if (fd < 0)
		return failed(w, "open it");
	if (fstat(fd, &st) != 0)
		(void)failed(w, "look at it");
	else if (regular(w, &st) != 0)
		;
	else if (use != SAFEFILE_RUN)
		ret = readable(w, name, &st);
	else if (executable(w, name, &st) == 0)
		return fd;
	error = errno;
	(void)close(fd);
	errno = error;
	return ret;
}

static int walk(struct walk *w, enum safefile_use use)
{
	char name[NAME_MAX + 1];
	int len;

	if (to_root(w) != 0)
		return -1;
	while ((len = take(w, name)) > 0) {
		if (strcmp(name, ".") == 0)
			continue;
		if (append(w, name, (size_t)len) != 0)
			return -1;
		if (w->rest[0] == '\0')
			return final(w, name, use);
		if (enter(w, name) != 0)
			return -1;
	}
	return len < 0 ? -1 : refuse(w, EISDIR, "%s is a folder", shown(w));
}

int safefile_open(const char *path, enum safefile_use use, char why[SAFEFILE_WHY])
{
	struct walk *w = calloc(1, sizeof(*w));
	int fd = -1, error;
	size_t len = strlen(path);

	why[0] = '\0';
	if (w == NULL) {
		(void)snprintf(why, SAFEFILE_WHY, "out of memory");
		return -1;
	}
	w->dir = -1;
	w->why = why;
	w->links = MAX_LINKS;
	w->strict = use == SAFEFILE_STRICT;
	if (path[0] != '/') {
		(void)refuse(w, EINVAL, "'%.*s' is not an absolute path: write it from / on", SHOWN, path);
	} else if (len >= sizeof(w->rest)) {
		(void)refuse(w, ENAMETOOLONG, "'%.*s...': the path of %zu bytes is too long", SHOWN, path, len);
	} else if (path[len - 1] == '/') {
		(void)refuse(w, ENOTDIR, "'%s' names a folder: name a file", path + (len > SHOWN ? len - SHOWN : 0));
	} else {
		memcpy(w->rest, path, len + 1);
		fd = walk(w, use);
	}
	error = errno;
	if (w->dir >= 0)
		(void)close(w->dir);
	free(w);
	errno = error;
	return fd;
}
