/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "frame.h"

#include <string.h>

enum { DAY_MS = 24 * 3600 * 1000 };

static const struct {
	const char *name;
	int64_t us;
} units[] = {{"ms", 1000}, {"us", 1}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000}};

/* number reads digits and at most one point, in millionths. */
static bool number(const char **at, int64_t *millionths)
{
	const char *s = *at;
	int64_t value = 0, scale = 1000000;
	bool digits = false, point = false;

	for (; (*s >= '0' && *s <= '9') || (*s == '.' && !point); s++) {
		if (*s == '.') {
			point = true;
			continue;
		}
		digits = true;
		if (point)
			scale /= 10;
		value += point ? (*s - '0') * scale : value * 9 + (*s - '0') * scale;
		if (value > (int64_t)DAY_MS * 1000000)
			return false;
	}
	*at = s;
	*millionths = value;
	return digits;
}

/* unit reads a unit's name, in microseconds. */
static int64_t unit(const char **at)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t len = strlen(units[i].name);

		if (strncmp(*at, units[i].name, len) == 0) {
			*at += len;
			return units[i].us;
		}
	}
	return 0;
}

bool frame_duration(const char *text, int64_t *ms)
{
	const int64_t max_us = (int64_t)DAY_MS * 1000;
	int64_t sum = 0, value = 0;

	if (*text == '\0')
		return false;
	while (*text != '\0') {
		int64_t us;

		if (!number(&text, &value))
			return false;
		us = unit(&text);
		if (us == 0 || value / 1000000 > max_us / us)
			return false;
		sum += value / 1000000 * us + value % 1000000 * us / 1000000;
		if (sum > max_us)
			return false;
	}
	*ms = sum / 1000;
	return true;
}
