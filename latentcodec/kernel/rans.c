/* The inner loops of latentcodec/rans, segment by segment (docs/format.md, "rANS stream").

     lc_rans_index    tables, once: checked, and for each row the entry at every 128th slot
     lc_rans_take     words ─► entries ─► values, escapes included
     lc_rans_put      values ─► entries, the distances of those that escape, code length
     lc_rans_encode   entries of a segment, from the last ─► words, from the last

   rans/lanes.py says the same in numpy, a batch at a time. Here symbols are coded one by one: the lanes take turns,
   and the words come in the order of the symbols, so that a batch matters at a stream's end alone. */

#include "kernel.h"

#define LOW 65536u /* the least state; and the slots of a row */
#define BUCKET_BITS 7
#define BUCKETS (1 << (16 - BUCKET_BITS)) /* of the index, a row; rans.py has it too */
#define MAX_VALUE (1 << 20)
#define ESCAPE_BYTES 4

/* What the functions give, where it is no count. rans.py names them too. */
enum { DONE = 0, BAD_TABLES = -1, BAD_ROW = -2, BAD_VALUE = -3, ESCAPE_NOT_SHORTEST = -4, ESCAPE_OUTSIDE = -5 };

struct row {
    int32_t first;  /* the place of its first entry among all */
    int32_t escape; /* its last entry, counted within the row; 0: the row codes nothing */
    int32_t offset; /* entry k codes k - offset */
};

struct tables {
    int64_t rows;          /* the last is that of the bytes of escapes */
    int64_t entries;       /* of all rows */
    const struct row *row; /* (rows) */
    const uint32_t *span;  /* (entries) the first slot, and in the upper half the number of slots - 1 */
    const int64_t *cost;   /* (entries) bits * COST_UNIT */
    uint16_t *index;       /* (rows, BUCKETS) the entry of each bucket's first slot, counted within the row */
};

struct stream {
    int64_t lanes;
    int64_t words;
    int64_t position; /* of the next word */
    int64_t exhausted;
    uint32_t *state;      /* (lanes) */
    const uint16_t *word; /* (words) */
};

static inline uint32_t first_slot(uint32_t span) { return span & 0xFFFF; }
static inline uint32_t frequency(uint32_t span) { return (span >> 16) + 1; }

/* Fill the index. BAD_TABLES unless every row's entries share its slots without gaps, in order, and every value
   that they code lies within -MAX_VALUE..MAX_VALUE. All functions below rely on that. */
LC_EXPORT int32_t lc_rans_index(const struct tables *tables)
{
    for (int64_t r = 0; r < tables->rows; r++) {
        const struct row *row = tables->row + r;
        uint16_t *index = tables->index + r * BUCKETS;
        uint32_t slot = 0, bucket = 0;
        if (row->first < 0 || row->escape < 0 || row->escape >= (int32_t)LOW ||
            row->first + (int64_t)row->escape >= tables->entries || row->offset > MAX_VALUE ||
            row->offset < row->escape - 1 - MAX_VALUE)
            return BAD_TABLES;
        for (int32_t k = 0; k <= row->escape; k++) {
            uint32_t span = tables->span[row->first + k];
            if (slot >= LOW || first_slot(span) != slot)
                return BAD_TABLES;
            slot += frequency(span);
            for (; bucket < BUCKETS && bucket << BUCKET_BITS < slot; bucket++)
                index[bucket] = (uint16_t)k;
        }
        if (slot != LOW)
            return BAD_TABLES;
    }
    return DONE;
}

/* Whether all rows are in range, the last one left out, and code something; and no more than an int32 counts. */
static int rows_are_coded(const struct tables *tables, const int32_t *rows, int64_t count)
{
    const uint32_t end = (uint32_t)(tables->rows - 1);
    uint32_t highest = 0;
    int coded = 1;
    if (count < 0 || count > INT32_MAX)
        return 0;
    for (int64_t i = 0; i < count; i++)
        highest = (uint32_t)rows[i] > highest ? (uint32_t)rows[i] : highest;
    if (count && highest >= end)
        return 0;
    for (int64_t i = 0; i < count; i++)
        coded &= tables->row[rows[i]].escape > 0;
    return coded;
}

/* The entry of a slot, counted within its row. Every row's entries cover all slots, so that one is found. */
static inline int32_t find(const struct tables *tables, int32_t row, uint32_t slot, uint32_t *span)
{
    const uint32_t *own = tables->span + tables->row[row].first;
    int32_t entry = tables->index[(int64_t)row * BUCKETS + (slot >> BUCKET_BITS)];
    uint32_t found = own[entry];
    while (slot - first_slot(found) > found >> 16)
        found = own[++entry];
    *span = found;
    return entry;
}

/* The entries (count) of symbols whose rows are row[0], row[step], row[2 * step] ...; fewer where the words end.
   Then the batch that misses a word is completed: its other lanes still hold their symbols. */
static inline int64_t take_entries(const struct tables *tables, struct stream *stream, const int32_t *row,
                                   int64_t step, int64_t count, int32_t *restrict entries)
{
    uint32_t *restrict state = stream->state, span;
    const uint16_t *restrict word = stream->word;
    const int64_t lanes = stream->lanes, words = stream->words;
    int64_t position = stream->position, lane = 0, i = 0;
    while (i < count && position < words) {
        int64_t left = words - position, stop = left < count - i ? i + left : count;
        for (; i < stop; i++) { /* each takes one word at most: there are enough */
            uint32_t x = state[lane], slot = x & 0xFFFF, missing;
            entries[i] = find(tables, row[i * step], slot, &span);
            x = frequency(span) * (x >> 16) + slot - first_slot(span);
            missing = x < LOW;
            state[lane] = x << 16 * missing | (word[position] & (0u - missing)); /* a branch would be mispredicted */
            position += missing;
            lane = lane + 1 == lanes ? 0 : lane + 1;
        }
    }
    stream->position = position;
    for (; i < count; i++) { /* no word is left */
        uint32_t x = state[lane], slot = x & 0xFFFF;
        entries[i] = find(tables, row[i * step], slot, &span);
        x = frequency(span) * (x >> 16) + slot - first_slot(span);
        if (x < LOW) {
            stream->exhausted = 1;
            for (i++, lane++; i < count && lane < lanes; i++, lane++)
                entries[i] = find(tables, row[i * step], state[lane] & 0xFFFF, &span);
            return i;
        }
        state[lane] = x;
        lane = lane + 1 == lanes ? 0 : lane + 1;
    }
    return count;
}

/* The values of the symbols at `places` (count, in a segment with these rows), which have escaped: a segment of
   the first bytes of their distances, one of the second bytes of those that go on, and so forth. All 0 where the
   stream ends among them. `bytes` (count) is scratch, and `places` is put into another order. */
static int32_t take_escapes(const struct tables *tables, struct stream *stream, const int32_t *rows, int64_t count,
                            int32_t *places, int32_t *bytes, int32_t *values)
{
    const int32_t byte_row = (int32_t)(tables->rows - 1);
    int64_t pending = count; /* those come first in `places`, in the segment's order */
    int outside = 0;
    for (int64_t e = 0; e < count; e++)
        values[places[e]] = 0;
    for (int round = 0; round < ESCAPE_BYTES && pending; round++) {
        int64_t still = 0, got = 0;
        if (!stream->exhausted)
            got = take_entries(tables, stream, &byte_row, 0, pending, bytes);
        if (got < pending) {
            for (int64_t e = 0; e < count; e++)
                values[places[e]] = 0;
            return DONE;
        }
        for (int64_t e = 0; round && e < pending; e++)
            if (bytes[e] == 0)
                return ESCAPE_NOT_SHORTEST;
        for (int64_t e = 0; e < pending; e++) {
            int32_t place = places[e];
            values[place] |= (bytes[e] & 0x7F) << 7 * round;
            if (bytes[e] > 0x7F) {
                places[e] = places[still];
                places[still++] = place;
            }
        }
        pending = still;
    }
    for (int64_t e = 0; e < count; e++) {
        const struct row *row = tables->row + rows[places[e]];
        int32_t distance = values[places[e]];
        int32_t value = (distance & 1 ? -((distance + 1) >> 1) : row->escape + (distance >> 1)) - row->offset;
        outside |= value < -MAX_VALUE || value > MAX_VALUE;
        values[places[e]] = value;
    }
    return pending || outside ? ESCAPE_OUTSIDE : DONE;
}

/* The values (count) of a segment's symbols; 0 past the stream's end, which `exhausted` tells. scratch: (2 * count).
   BAD_ROW, with nothing taken, where a row is out of range or codes nothing; or why an escape is malformed. */
LC_EXPORT int32_t lc_rans_take(const struct tables *tables, struct stream *stream, const int32_t *rows,
                               int64_t count, int32_t *values, int32_t *scratch)
{
    int64_t escaped = 0, got = 0;
    if (!rows_are_coded(tables, rows, count))
        return BAD_ROW;
    if (!stream->exhausted)
        got = take_entries(tables, stream, rows, 1, count, values);
    for (int64_t i = 0; i < got; i++) {
        const struct row *row = tables->row + rows[i];
        int32_t entry = values[i];
        scratch[escaped] = (int32_t)i;
        escaped += entry == row->escape;
        values[i] = entry - row->offset;
    }
    for (int64_t i = got; i < count; i++)
        values[i] = 0;
    return escaped ? take_escapes(tables, stream, rows, escaped, scratch, scratch + count, values) : DONE;
}

/* The entries (count) of a segment's symbols, counted among all rows' entries, and the distances of those that
   escape, in order: `count` at most. `cost` gets the entries' code length. Gives the number of escapes; BAD_ROW
   where a row is out of range or codes nothing, BAD_VALUE where a value is outside -MAX_VALUE..MAX_VALUE. */
LC_EXPORT int64_t lc_rans_put(const struct tables *tables, const int32_t *values, const int32_t *rows, int64_t count,
                              int32_t *entries, int32_t *distances, int64_t *cost)
{
    int64_t escaped = 0, sum = 0;
    if (!rows_are_coded(tables, rows, count))
        return BAD_ROW;
    for (int64_t i = 0; i < count; i++) {
        const struct row *row = tables->row + rows[i];
        int32_t entry, outside;
        if (values[i] < -MAX_VALUE || values[i] > MAX_VALUE)
            return BAD_VALUE;
        entry = values[i] + row->offset;
        outside = entry < 0 || entry >= row->escape;
        distances[escaped] = entry < 0 ? -2 * entry - 1 : 2 * (entry - row->escape);
        escaped += outside;
        entries[i] = (outside ? row->escape : entry) + row->first;
        sum += tables->cost[entries[i]];
    }
    *cost = sum;
    return escaped;
}

/* Code a segment's entries (count) in front of word[begin]; gives the place of the first word then. BAD_VALUE
   where an entry is outside the tables, or `count` words have no room before `begin`. */
LC_EXPORT int64_t lc_rans_encode(const struct tables *tables, uint32_t *restrict state, int64_t lanes,
                                 const int32_t *entries, int64_t count, uint16_t *restrict word, int64_t begin)
{
    if (begin < count || lanes < 1)
        return BAD_VALUE;
    for (int64_t i = count - 1, lane = count ? i % lanes : 0; i >= 0; i--) {
        uint32_t x = state[lane], span, size, full;
        if (entries[i] < 0 || entries[i] >= tables->entries)
            return BAD_VALUE;
        span = tables->span[entries[i]];
        size = frequency(span);
        full = x >> 16 >= size;
        word[begin - 1] = (uint16_t)x; /* there is room: a symbol emits one word at most */
        begin -= full;
        x >>= 16 * full;
        /* x + (x / f) * (2^16 - f) = (x / f) * 2^16 + x mod f */
        state[lane] = x + x / size * (LOW - size) + first_slot(span);
        lane = lane ? lane - 1 : lanes - 1;
    }
    return begin;
}
