/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "frame.h"

#include <string.h>

static const int64_t day_ns = 24 * INT64_C(3600000000000);

static const struct {
	const char *name;
	int64_t ns;
} units[] = {
	{"ms", 1000000}, {"us", 1000}, {"s", 1000000000}, {"m", 60000000000}, {"h", 3600000000000},
};

/* number reads digits and at most one point with three digits behind it, in
 * thousandths: of any unit, that is a whole number of nanoseconds. */
static bool number(const char **at, int64_t *thousandths)
{
	const char *s = *at;
	int64_t value = 0, scale = 1000;
	bool digits = false, point = false;

	for (; (*s >= '0' && *s <= '9') || (*s == '.' && !point); s++) {
		if (*s == '.') {
			point = true;
			continue;
		}
		digits = true;
		if (point)
			scale /= 10;
		else
			value *= 10;
		value += (*s - '0') * scale;
		if (value > day_ns || scale == 0)
			return false;
	}
	*at = s;
	*thousandths = value;
	return digits;
}

/* unit reads a unit's name, in nanoseconds. Returns 0 for any other. */
static int64_t unit(const char **at)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t len = strlen(units[i].name);

		if (strncmp(*at, units[i].name, len) == 0) {
			*at += len;
			return units[i].ns;
		}
	}
	return 0;
}

bool frame_duration(const char *text, int64_t *ms)
{
	int64_t sum = 0, value = 0;

	while (*text != '\0') {
		int64_t ns;

		if (!number(&text, &value))
			return false;
		ns = unit(&text);
		if (ns == 0 || value / 1000 > day_ns / ns)
			return false;
		sum += value * (ns / 1000);
		if (sum > day_ns)
			return false;
	}
	if (sum < 1000000)
		return false;
	*ms = sum / 1000000;
	return true;
}
