/* What the networks of nn/exact/engine.py do with maps besides convolutions: one pass over the map each.

     lc_rescale     v = (x multiplier + offset) >> shift, by channel, then the activation: narrowing, multiply_wide
     lc_add_wide, lc_add_leaky
     lc_multiply_exact
     lc_samples     patches + correction ─► samples of a picture

   Numbers that layers may hold stay below 2^31 here. With others sums wrap: nothing is undefined. */

#include "activation.h"
#include "instructions.h"
#include "kernel.h"
#include <string.h>

#define COLOURS 3
#define PATCH 8 /* samples along a side of a position of x */
#define FINE 4  /* of one of the correction */
#define PATCH_SAMPLES (COLOURS * PATCH * PATCH)
#define FINE_SAMPLES (COLOURS * FINE * FINE)
#define STEP 256 /* of an 8-bit step, what samples are summed up from */
#define WHITE (255 * STEP)
#define FAR 4194304.0 /* further from 0 than any patch: 2^22 */

enum { DONE = 0, BAD_SIZE = -1 };

struct rescaling {
    const int16_t *x; /* (positions, channels), as out */
    int64_t positions, channels;
    const int32_t *multiplier, *offset, *shift; /* (channels); no multiplier: 1 */
    int32_t activation;
    int16_t *out;
};

ALWAYS_INLINE int32_t sum_of(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

ALWAYS_INLINE void rescale_as(const struct rescaling *call, int multiplies, enum activation activation)
{
    const int16_t *restrict x = call->x;
    const int32_t *restrict multiplier = call->multiplier, *restrict offset = call->offset;
    const int32_t *restrict shift = call->shift;
    int16_t *restrict out = call->out;
    for (int64_t i = 0; i < call->positions; i++, x += call->channels, out += call->channels)
        for (int64_t k = 0; k < call->channels; k++)
            out[k] = activated(sum_of(x[k] * (multiplies ? multiplier[k] : 1), offset[k]) >> shift[k], activation);
}

ALWAYS_INLINE void rescale(const struct rescaling *call)
{
    if (call->multiplier) {
        rescale_as(call, 1, WIDE);
        return;
    }
    switch (call->activation) {
    case WIDE: rescale_as(call, 0, WIDE); break;
    case LEAKY: rescale_as(call, 0, LEAKY); break;
    case TENTH: rescale_as(call, 0, TENTH); break;
    default: rescale_as(call, 0, CLAMP); break;
    }
}

struct sum {
    const int16_t *a, *b; /* (count), as out */
    int64_t count;
    int16_t *out;
};

/* b is clamped to the room that a leaves, so that all fits 16 bits: twice as many numbers in a vector. */
ALWAYS_INLINE void add_wide(const struct sum *call)
{
    const int16_t *restrict a = call->a, *restrict b = call->b;
    int16_t *restrict out = call->out;
    for (int64_t i = 0; i < call->count; i++) {
        const int16_t least = (int16_t)(-WIDE_LIMIT - (a[i] < 0 ? a[i] : 0));
        const int16_t most = (int16_t)(WIDE_LIMIT - (a[i] > 0 ? a[i] : 0));
        const int16_t raised = b[i] < least ? least : b[i], change = raised > most ? most : raised;
        out[i] = (int16_t)(a[i] + change);
    }
}

ALWAYS_INLINE void add_leaky(const struct sum *call)
{
    const int16_t *restrict a = call->a, *restrict b = call->b;
    int16_t *restrict out = call->out;
    for (int64_t i = 0; i < call->count; i++) {
        const int16_t least = (int16_t)(-NARROW_LIMIT - a[i]), most = (int16_t)(NARROW_LIMIT - a[i]);
        const int16_t raised = b[i] < least ? least : b[i], change = raised > most ? most : raised;
        const int16_t v = (int16_t)(a[i] + change), less = (int16_t)(v >> 3);
        out[i] = v > less ? v : less;
    }
}

struct product {
    const double *x; /* (positions, channels), as out: integers */
    int64_t positions, channels;
    const double *factor; /* (channels) */
    double limit;
    double *out;
};

/* floor(v) of |v| < 2^51. Where 1.5 * 2^52 is added, doubles round to integers; 1 is taken off where that was up. It
   is written in bits: compilers make no vectors of comparisons that could trap. */
ALWAYS_INLINE double floor_of(double v)
{
    const double integers = 6755399441055744.0, rounded = (v + integers) - integers, rest = v - rounded;
    uint64_t bits;
    double one;
    memcpy(&bits, &rest, sizeof bits);
    bits = (0 - (bits >> 63)) & 0x3FF0000000000000u; /* 1.0, or 0 */
    memcpy(&one, &bits, sizeof one);
    return rounded - one;
}

/* floor(x factor + 1/2), clamped to +-limit. */
ALWAYS_INLINE void multiply_exact(const struct product *call)
{
    const double most = call->limit, least = -call->limit, *restrict x = call->x, *restrict factor = call->factor;
    double *restrict out = call->out;
    for (int64_t i = 0; i < call->positions; i++, x += call->channels, out += call->channels) {
        for (int64_t k = 0; k < call->channels; k++) {
            double v = x[k] * factor[k] + 0.5;
            v = v > least ? v : least;
            out[k] = floor_of(v < most ? v : most);
        }
    }
}

struct picture {
    const double *x;       /* (height, width, PATCH_SAMPLES): colour, row, column */
    const int16_t *change; /* (2 height, 2 width, FINE_SAMPLES) */
    int64_t height, width;
    int32_t most;  /* 2^bits - 1 */
    uint16_t *out; /* (PATCH height, PATCH width, COLOURS) */
};

/* The samples of one patch, in its order: floor((v most + WHITE / 2) / WHITE) of v in 0..WHITE. That is below 2^32
   for 16 bits, and what lies outside of 0..WHITE would give the same as its ends, or be clamped to them. */
ALWAYS_INLINE void patch_samples(const struct picture *call, int64_t row, int64_t column,
                                 uint16_t samples[restrict PATCH_SAMPLES])
{
    const double *restrict x = call->x + (row * call->width + column) * PATCH_SAMPLES;
    int32_t total[COLOURS][PATCH][PATCH], *flat = total[0][0];
    for (int i = 0; i < PATCH_SAMPLES; i++) {
        double v = x[i] > -FAR ? x[i] : -FAR; /* a conversion of what an int32 does not hold is undefined */
        flat[i] = (int32_t)(v < FAR ? v : FAR);
    }
    for (int y = 0; y < PATCH; y++) {
        const int16_t *left = call->change + ((2 * row + y / FINE) * 2 * call->width + 2 * column) * FINE_SAMPLES;
        for (int colour = 0; colour < COLOURS; colour++) {
            const int16_t *fine = left + (colour * FINE + y % FINE) * FINE;
            for (int i = 0; i < FINE; i++) {
                total[colour][y][i] += fine[i];
                total[colour][y][FINE + i] += fine[FINE_SAMPLES + i];
            }
        }
    }
    for (int i = 0; i < PATCH_SAMPLES; i++) {
        uint32_t v = (uint32_t)clamp(flat[i] + WHITE / 2, 0, WHITE);
        samples[i] = (uint16_t)((v * (uint32_t)call->most + WHITE / 2) / WHITE);
    }
}

ALWAYS_INLINE void fill_picture(const struct picture *call)
{
    uint16_t samples[PATCH_SAMPLES];
    for (int64_t row = 0; row < call->height; row++) {
        for (int64_t column = 0; column < call->width; column++) {
            patch_samples(call, row, column, samples);
            for (int y = 0; y < PATCH; y++) {
                uint16_t *out = call->out + ((row * PATCH + y) * call->width + column) * PATCH * COLOURS;
                for (int i = 0; i < PATCH; i++)
                    for (int colour = 0; colour < COLOURS; colour++)
                        out[i * COLOURS + colour] = samples[(colour * PATCH + y) * PATCH + i];
            }
        }
    }
}

COMPILED_TWICE(rescale, struct rescaling)
COMPILED_TWICE(add_wide, struct sum)
COMPILED_TWICE(add_leaky, struct sum)
COMPILED_TWICE(multiply_exact, struct product)
COMPILED_TWICE(fill_picture, struct picture)

/* Channel by channel: x, out (positions, channels), the other arrays (channels). multiplier: up to 256, or NULL; with
   one the activation is WIDE. shift: 1 to 22. */
LC_EXPORT int32_t lc_rescale(int32_t instructions, const int16_t *x, int64_t positions, int64_t channels,
                             const int32_t *multiplier, const int32_t *offset, const int32_t *shift,
                             int32_t activation, int16_t *out)
{
    const struct rescaling call = {x, positions, channels, multiplier, offset, shift, activation, out};
    if (positions < 0 || channels < 0)
        return BAD_SIZE;
    rescale_on(instructions, &call);
    return DONE;
}

LC_EXPORT int32_t lc_add_wide(int32_t instructions, const int16_t *a, const int16_t *b, int64_t count, int16_t *out)
{
    const struct sum call = {a, b, count, out};
    add_wide_on(instructions, &call);
    return DONE;
}

LC_EXPORT int32_t lc_add_leaky(int32_t instructions, const int16_t *a, const int16_t *b, int64_t count, int16_t *out)
{
    const struct sum call = {a, b, count, out};
    add_leaky_on(instructions, &call);
    return DONE;
}

/* factor: a multiplier by a power of two. limit: an integer below 2^51. */
LC_EXPORT int32_t lc_multiply_exact(int32_t instructions, const double *x, int64_t positions, int64_t channels,
                                    const double *factor, double limit, double *out)
{
    const struct product call = {x, positions, channels, factor, limit, out};
    multiply_exact_on(instructions, &call);
    return DONE;
}

/* bits: 1 to 16. */
LC_EXPORT int32_t lc_samples(int32_t instructions, const double *x, const int16_t *change, int64_t height,
                             int64_t width, int32_t bits, uint16_t *out)
{
    struct picture call = {x, change, height, width, 0, out};
    if (bits < 1 || bits > 16)
        return BAD_SIZE;
    call.most = (1 << bits) - 1;
    fill_picture_on(instructions, &call);
    return DONE;
}
