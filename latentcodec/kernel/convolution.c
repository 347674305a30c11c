/* Convolutions of nn/exact/layer.py, kernels of 1x1 and 3x3, in integers of 16 and 32 bits.

     3x3   tiles of 4x4 outputs ─► 36 sums of their 6x6 inputs ─► 36 products of matrices ─► 4x4 sums ─┐
     1x1   positions ────────────────────────────────────────────► one product of matrices ────────────┴─► finish

   Kernels of 3x3 are computed by Winograd's F(4x4, 3x3), with a quarter of the multiplications, and exactly. With the
   matrices below, free of fractions, what the last step sums up is 576 times the accumulator. All is computed modulo
   2^32, so that nothing is lost where a sum passes it: 576 = 64 * 9, and 9 has an inverse, with which 64 times the
   accumulator is left. It is below 2^29 in magnitude, as an accumulator is below 2^23. What is multiplied fits 16
   bits: 10 * 10 * 127 bounds the sums of inputs, 7 * 7 * 127 those of weights.

     inputs (B)              weights (G)      products (A)
     4  0 -5  0  1  0        1  0  0          6  4  4  1  1  0
     0  4  4 -1 -1  0        1  1  1          0  4 -4  2 -2  0
     0 -4  4  1 -1  0        1 -1  1          0  4  4  4  4  0
     0 -2 -1  2  1  0        1  2  4          0  4 -4  8 -8 24
     0  2 -1 -2  1  0        1 -2  4
     0  4  0 -5  0  1        0  0  1

   convolution_weights.c transforms the weights, once. */

#include "activation.h"
#include "instructions.h"
#include "kernel.h"
#include "product.h"
#include <string.h>

#define SIDE 6 /* of a tile's inputs */
#define TILE 4 /* of its outputs */
#define POINTS (SIDE * SIDE)
#define LANES 16 /* channels transformed at once */
#define LINE 64  /* bytes of a line of a cache */
#define INVERSE_OF_9 954437177u
#define STRIP_BYTES (128 << 10) /* of transformed inputs: some of a second-level cache */
#define MOST_TILES 48
#define STRIP_POSITIONS 96

enum { DONE = 0, BAD_LAYER = -1, BAD_ROWS = -2, SMALL_SCRATCH = -3 };

struct layer {
    int32_t inputs;
    int32_t outputs;
    int32_t kernel;         /* 1 or 3 */
    int32_t activation;
    const int16_t *weights; /* (blocks, 1 or POINTS, pairs, BLOCK, 2), 0 beyond inputs and outputs */
    const int32_t *shift;   /* (blocks, BLOCK) */
};

struct convolution {
    const struct layer *layer;
    const int32_t *bias; /* (blocks, BLOCK), the half that rounds included */
    const int16_t *x;    /* (height, width, inputs) */
    int64_t height, width;
    int64_t first, last; /* rows of out: from first, before last */
    int16_t *out;        /* (height, width, outputs) */
    int16_t *inputs;     /* scratch: a strip's, each padded to whole vectors */
    uint32_t *sums;      /* scratch: of a strip and a block */
    int16_t *zeros;      /* scratch: a position outside */
};

static inline int64_t padded(const struct layer *layer) { return (layer->inputs + LANES - 1) / LANES * LANES; }

/* Numbers from one matrix to the next: an odd number of lines of a cache. If it were a power of two, the POINTS
   numbers of a tile would all fall on a few of its sets, and drive each other out. */
static inline int64_t odd_lines(int64_t numbers, int64_t bytes)
{
    return ((numbers * bytes + LINE - 1) / LINE | 1) * LINE / bytes;
}

static inline int64_t sums_apart(int64_t count) { return odd_lines(count * BLOCK, sizeof(uint32_t)); }

static inline int64_t inputs_apart(const struct layer *layer, int64_t count)
{
    return odd_lines(count * padded(layer), sizeof(int16_t));
}

/* How much of a map is computed at once, in tiles or positions. */
static int64_t strip_length(const struct layer *layer)
{
    int64_t tiles = STRIP_BYTES / (POINTS * 2 * padded(layer));
    if (layer->kernel == 1)
        return STRIP_POSITIONS;
    tiles -= tiles % MOST_ROWS;
    return tiles < MOST_ROWS ? MOST_ROWS : tiles > MOST_TILES ? MOST_TILES : tiles;
}

/* A column or row of inputs through B, all channels of a vector. */
ALWAYS_INLINE void transform_six(const int16_t *const x[SIDE], int16_t to[restrict SIDE][LANES])
{
    const int16_t *a = x[0], *b = x[1], *c = x[2], *d = x[3], *e = x[4], *f = x[5];
    for (int k = 0; k < LANES; k++) {
        to[0][k] = (int16_t)(4 * a[k] - 5 * c[k] + e[k]);
        to[1][k] = (int16_t)(4 * (b[k] + c[k]) - d[k] - e[k]);
        to[2][k] = (int16_t)(4 * (c[k] - b[k]) + d[k] - e[k]);
        to[3][k] = (int16_t)(2 * (d[k] - b[k]) - c[k] + e[k]);
        to[4][k] = (int16_t)(2 * (b[k] - d[k]) - c[k] + e[k]);
        to[5][k] = (int16_t)(4 * b[k] - 5 * d[k] + f[k]);
    }
}

/* A vector of channels of one tile's inputs; to: the first of POINTS results, `apart` from each other. */
ALWAYS_INLINE void transform_channels(const int16_t *const from[POINTS], int64_t channel, int16_t *to, int64_t apart)
{
    int16_t half[SIDE][SIDE][LANES], whole[SIDE][LANES];
    const int16_t *x[SIDE];
    for (int column = 0; column < SIDE; column++) {
        for (int row = 0; row < SIDE; row++)
            x[row] = from[row * SIDE + column] + channel;
        transform_six(x, half[column]);
    }
    for (int row = 0; row < SIDE; row++) {
        for (int column = 0; column < SIDE; column++)
            x[column] = half[column][row];
        transform_six(x, whole);
        for (int column = 0; column < SIDE; column++)
            memcpy(to + (row * SIDE + column) * apart, whole[column], sizeof whole[column]);
    }
}

/* The inputs of tile number `tile` of the map, place number `place` of the strip. */
ALWAYS_INLINE void transform_inputs(const struct convolution *call, int64_t tile, int64_t place, int64_t apart)
{
    const int64_t inputs = call->layer->inputs, across = (call->width + TILE - 1) / TILE;
    const int64_t top = tile / across * TILE - 1, left = tile % across * TILE - 1;
    const int16_t *from[POINTS];
    int16_t rest[POINTS][LANES], *to = call->inputs + place * padded(call->layer);
    int64_t channel = 0;
    for (int i = 0; i < POINTS; i++) {
        const int64_t row = top + i / SIDE, column = left + i % SIDE;
        const int inside = row >= 0 && row < call->height && column >= 0 && column < call->width;
        from[i] = inside ? call->x + (row * call->width + column) * inputs : call->zeros;
    }
    for (; channel + LANES <= inputs; channel += LANES)
        transform_channels(from, channel, to + channel, apart);
    if (channel == inputs)
        return;
    memset(rest, 0, sizeof rest);
    for (int i = 0; i < POINTS; i++) {
        memcpy(rest[i], from[i] + channel, (size_t)(inputs - channel) * sizeof rest[i][0]);
        from[i] = rest[i];
    }
    transform_channels(from, 0, to + channel, apart);
}

/* BLOCK accumulators, `by` times each modulo 2^32 and then shifted by `down`, to activations. */
ALWAYS_INLINE void finish(const struct convolution *call, int64_t block, const uint32_t *restrict sums, uint32_t by,
                          int down, int16_t *restrict to, enum activation activation)
{
    const int32_t *restrict bias = call->bias + block * BLOCK, *restrict shift = call->layer->shift + block * BLOCK;
    for (int k = 0; k < BLOCK; k++) {
        const int32_t accumulator = (int32_t)(sums[k] * by) >> down;
        to[k] = activated((int32_t)((uint32_t)accumulator + (uint32_t)bias[k]) >> shift[k], activation);
    }
}

/* A position's outputs of a block. */
ALWAYS_INLINE void put(const struct convolution *call, int64_t block, int64_t position, const int16_t *from)
{
    const int64_t outputs = call->layer->outputs, left = outputs - block * BLOCK;
    int16_t *to = call->out + position * outputs + block * BLOCK;
    if (left >= BLOCK)
        memcpy(to, from, BLOCK * sizeof *to);
    else
        memcpy(to, from, (size_t)left * sizeof *to);
}

/* A column or row of products through A: six vectors of a block, the results `step` apart. */
ALWAYS_INLINE void transform_to_four(const uint32_t *restrict x, int64_t apart, uint32_t *restrict to, int64_t step)
{
    const uint32_t *a = x, *b = x + apart, *c = x + 2 * apart, *d = x + 3 * apart, *e = x + 4 * apart;
    const uint32_t *f = x + 5 * apart;
    for (int k = 0; k < BLOCK; k++) {
        const uint32_t sum = 4 * (b[k] + c[k]), difference = 4 * (b[k] - c[k]);
        const uint32_t outer_sum = d[k] + e[k], outer_difference = d[k] - e[k];
        to[k] = 6 * a[k] + sum + outer_sum;
        to[k + step] = difference + 2 * outer_difference;
        to[k + 2 * step] = sum + 4 * outer_sum;
        to[k + 3 * step] = difference + 8 * (outer_difference + 3 * f[k]);
    }
}

/* The outputs of a block of one tile, from its products, `apart` from each other. */
ALWAYS_INLINE void finish_tile(const struct convolution *call, int64_t block, int64_t tile, const uint32_t *products,
                               int64_t apart, enum activation activation)
{
    const int64_t across = (call->width + TILE - 1) / TILE;
    const int64_t top = tile / across * TILE, left = tile % across * TILE;
    uint32_t half[SIDE][TILE][BLOCK], sums[TILE][BLOCK];
    int16_t done[BLOCK];
    for (int row = 0; row < SIDE; row++)
        transform_to_four(products + row * SIDE * apart, apart, half[row][0], BLOCK);
    for (int column = 0; column < TILE && left + column < call->width; column++) {
        transform_to_four(half[0][column], TILE * BLOCK, sums[0], BLOCK);
        for (int row = 0; row < TILE && top + row < call->last; row++) {
            finish(call, block, sums[row], INVERSE_OF_9, 6, done, activation);
            put(call, block, (top + row) * call->width + left + column, done);
        }
    }
}

ALWAYS_INLINE void finish_block(const struct convolution *call, int64_t block, int64_t first, int64_t count,
                                int64_t apart, enum activation activation)
{
    int16_t done[BLOCK];
    if (call->layer->kernel == 3) {
        for (int64_t i = 0; i < count; i++)
            finish_tile(call, block, first + i, call->sums + i * BLOCK, apart, activation);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        finish(call, block, call->sums + i * BLOCK, 1, 0, done, activation);
        put(call, block, first + i, done);
    }
}

/* `count` tiles or positions from `first` on. */
ALWAYS_INLINE void convolve_strip(const struct convolution *call, int64_t first, int64_t count,
                                  product_function *product)
{
    const struct layer *layer = call->layer;
    const int64_t points = layer->kernel == 3 ? POINTS : 1, pairs = (layer->inputs + 1) / 2;
    const int64_t apart = inputs_apart(layer, count), apart_sums = sums_apart(count);
    const int16_t *inputs = call->inputs, *weights = layer->weights;
    int64_t stride = padded(layer);
    if (layer->kernel == 3) {
        for (int64_t i = 0; i < count; i++)
            transform_inputs(call, first + i, i, apart);
    } else if (layer->inputs % 2 == 0) {
        inputs = call->x + first * layer->inputs;
        stride = layer->inputs;
    } else {
        for (int64_t i = 0; i < count; i++) {
            memcpy(call->inputs + i * stride, call->x + (first + i) * layer->inputs,
                   (size_t)layer->inputs * sizeof *inputs);
            call->inputs[i * stride + layer->inputs] = 0;
        }
    }
    for (int64_t block = 0; block * BLOCK < layer->outputs; block++) {
        for (int64_t point = 0; point < points; point++, weights += 2 * pairs * BLOCK)
            product(inputs + point * apart, stride, weights, pairs, count, call->sums + point * apart_sums);
        switch (layer->activation) {
        case WIDE: finish_block(call, block, first, count, apart_sums, WIDE); break;
        case LEAKY: finish_block(call, block, first, count, apart_sums, LEAKY); break;
        case TENTH: finish_block(call, block, first, count, apart_sums, TENTH); break;
        default: finish_block(call, block, first, count, apart_sums, CLAMP); break;
        }
    }
}

ALWAYS_INLINE void convolve(const struct convolution *call, product_function *product)
{
    const int64_t across = call->layer->kernel == 3 ? (call->width + TILE - 1) / TILE : call->width;
    const int64_t down = call->layer->kernel == 3 ? TILE : 1, length = strip_length(call->layer);
    const int64_t end = (call->last + down - 1) / down * across;
    for (int64_t first = call->first / down * across; first < end; first += length)
        convolve_strip(call, first, end - first < length ? end - first : length, product);
}

static void convolve_portable(const struct convolution *call) { convolve(call, product_portable); }
FOR_AVX2 static void convolve_avx2(const struct convolution *call) { convolve(call, product_avx2); }

struct sizes {
    int64_t sums, inputs, zeros;
};

/* Of the parts of the scratch, in numbers. */
static struct sizes scratch_sizes(const struct layer *layer)
{
    const int64_t points = layer->kernel == 3 ? POINTS : 1, length = strip_length(layer);
    return (struct sizes){points * sums_apart(length), points * inputs_apart(layer, length), layer->inputs};
}

/* The bytes of scratch that lc_convolution needs. */
LC_EXPORT int64_t lc_convolution_scratch(const struct layer *layer)
{
    const struct sizes sizes = scratch_sizes(layer);
    return LINE + sizes.sums * 4 + (sizes.inputs + sizes.zeros) * 2;
}

/* Rows first to last - 1 of out; first must be a multiple of TILE. */
LC_EXPORT int32_t lc_convolution(int32_t instructions, const struct layer *layer, const int32_t *bias,
                                 const int16_t *x, int64_t height, int64_t width, int64_t first, int64_t last,
                                 int16_t *out, void *scratch, int64_t scratch_bytes)
{
    struct convolution call = {layer, bias, x, height, width, first, last, out, NULL, NULL, NULL};
    struct sizes sizes;
    if (layer->inputs < 1 || layer->outputs < 1 || (layer->kernel != 1 && layer->kernel != 3))
        return BAD_LAYER;
    if (first < 0 || first % TILE || last > height || width < 0)
        return BAD_ROWS;
    if (scratch_bytes < lc_convolution_scratch(layer))
        return SMALL_SCRATCH;
    sizes = scratch_sizes(layer);
    call.sums = (uint32_t *)(((uintptr_t)scratch + LINE - 1) / LINE * LINE);
    call.inputs = (int16_t *)(call.sums + sizes.sums);
    call.zeros = call.inputs + sizes.inputs;
    memset(call.zeros, 0, (size_t)sizes.zeros * sizeof *call.zeros);
    if (HAS_AVX2 && instructions == AVX2)
        convolve_avx2(&call);
    else
        convolve_portable(&call);
    return DONE;
}
