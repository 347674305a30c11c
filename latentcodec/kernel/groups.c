/* The loops of latentcodec/rans/groups.py (docs/model.md, "Groups"): symbols that are mostly zero, in eights.

     lc_groups_split      rows ─► which symbols form groups, and which are single
     lc_groups_patterns   values ─► which of each group's are not 0, and these, with their rows
     lc_groups_places     patterns ─► where the values that are not 0 stand, and their rows
     lc_gather, lc_scatter   arrays at places, which are checked */

#include "kernel.h"

#define GROUP 8
#define PATTERNS 256

enum { BAD_INPUT = -1 };

/* Symbol i, of row r, takes the row's next place in a group, or the next single one. */
static inline void place(int64_t i, int32_t r, uint32_t *restrict next, const uint32_t *restrict end,
                         uint32_t *restrict single, int32_t *restrict order)
{
    uint32_t grouped = next[r], fits = grouped < end[r];
    order[fits ? grouped : *single] = (int32_t)i;
    next[r] = grouped + fits;
    *single += 1 - fits;
}

/* order: (count), the places of the symbols: groups of eight of one row, by row, then all others in ascending order.
   group_rows: (count / 8), the row of each group. grouped: (tables), bool. scratch: (3 * tables). Gives the number
   of groups; BAD_INPUT where a row is outside 0..tables - 1, or there are more symbols than an int32 counts.

   Both halves of the symbols are placed at once: within one, a row's count waits for the one before. */
LC_EXPORT int64_t lc_groups_split(const int32_t *restrict rows, int64_t count, const uint8_t *grouped, int64_t tables,
                                  int32_t *restrict order, int32_t *restrict group_rows, uint32_t *restrict scratch)
{
    /* of each row: the symbols in either half, then the place of the next one; where the row's groups end */
    uint32_t *next[2] = {scratch, scratch + tables}, *end = scratch + 2 * tables;
    uint32_t groups = 0, single[2] = {0, 0}, highest = 0;
    const int64_t half = count / 2;
    if (count < 0 || count > INT32_MAX)
        return BAD_INPUT;
    for (int64_t i = 0; i < count; i++)
        highest = (uint32_t)rows[i] > highest ? (uint32_t)rows[i] : highest;
    if (count && highest >= tables)
        return BAD_INPUT;
    for (int64_t r = 0; r < 2 * tables; r++)
        scratch[r] = 0;
    for (int64_t i = 0; i < half; i++) {
        next[0][rows[i]]++;
        next[1][rows[half + i]]++;
    }
    if (count % 2)
        next[1][rows[count - 1]]++;
    for (int64_t r = 0; r < tables; r++) {
        uint32_t whole = grouped[r] ? (next[0][r] + next[1][r]) / GROUP : 0;
        uint32_t early = next[0][r] < whole * GROUP ? next[0][r] : whole * GROUP;
        single[1] += next[0][r] - early;
        next[0][r] = groups * GROUP;
        next[1][r] = groups * GROUP + early;
        while (whole--)
            group_rows[groups++] = (int32_t)r;
        end[r] = groups * GROUP;
    }
    single[0] = groups * GROUP;
    single[1] += groups * GROUP;
    for (int64_t i = 0; i < half; i++) {
        place(i, rows[i], next[0], end, single, order);
        place(half + i, rows[half + i], next[1], end, single + 1, order);
    }
    if (count % 2)
        place(count - 1, rows[count - 1], next[1], end, single + 1, order);
    return groups;
}

/* Of groups whose values are coded by group_rows (groups): ranks (groups), the number of each group's pattern, from
   number (256) by its bits; found and found_rows (8 * groups), the values that are not 0 and their rows. Gives how
   many these are; BAD_INPUT where a place in `order` is outside the values (count). */
LC_EXPORT int64_t lc_groups_patterns(const int32_t *restrict values, int64_t count, const int32_t *restrict order,
                                     const int32_t *restrict group_rows, int64_t groups,
                                     const int32_t *restrict number, int32_t *restrict ranks,
                                     int32_t *restrict found, int32_t *restrict found_rows)
{
    int64_t nonzero = 0;
    for (int64_t g = 0; g < groups; g++) {
        uint32_t pattern = 0;
        for (int k = 0; k < GROUP; k++) {
            int32_t at = order[GROUP * g + k];
            uint32_t is;
            if (at < 0 || at >= count)
                return BAD_INPUT;
            found[nonzero] = values[at];
            found_rows[nonzero] = group_rows[g];
            is = values[at] != 0;
            nonzero += is;
            pattern |= is << k;
        }
        ranks[g] = number[pattern];
    }
    return nonzero;
}

/* The reverse: places and found_rows (8 * groups), where values are not 0, by ranks (groups) and patterns (256) in
   the order of their numbers. BAD_INPUT where a rank is none. */
LC_EXPORT int64_t lc_groups_places(const int32_t *restrict ranks, const int32_t *restrict order,
                                   const int32_t *restrict group_rows, int64_t groups,
                                   const uint8_t *restrict patterns, int32_t *restrict places,
                                   int32_t *restrict found_rows)
{
    int64_t nonzero = 0;
    for (int64_t g = 0; g < groups; g++) {
        uint32_t pattern;
        if (ranks[g] < 0 || ranks[g] >= PATTERNS)
            return BAD_INPUT;
        pattern = patterns[ranks[g]];
        for (int k = 0; k < GROUP; k++) {
            places[nonzero] = order[GROUP * g + k];
            found_rows[nonzero] = group_rows[g];
            nonzero += pattern >> k & 1;
        }
    }
    return nonzero;
}

/* to[i] = from[places[i]]; from: (size). BAD_INPUT where a place is outside. */
LC_EXPORT int32_t lc_gather(const int32_t *from, int64_t size, const int32_t *places, int64_t count, int32_t *to)
{
    for (int64_t i = 0; i < count; i++) {
        if (places[i] < 0 || places[i] >= size)
            return BAD_INPUT;
        to[i] = from[places[i]];
    }
    return 0;
}

/* to[places[i]] = from[i]; to: (size). BAD_INPUT where a place is outside. */
LC_EXPORT int32_t lc_scatter(const int32_t *from, const int32_t *places, int64_t count, int32_t *to, int64_t size)
{
    for (int64_t i = 0; i < count; i++) {
        if (places[i] < 0 || places[i] >= size)
            return BAD_INPUT;
        to[places[i]] = from[i];
    }
    return 0;
}
