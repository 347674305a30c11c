/* Convolutions in floating point, for an encoder's networks: kernels of 1x1 and 3x3. No decoder depends on them.

     3x3   tiles of 4x4 outputs ─► 36 sums of their 6x6 inputs ─► 36 products of matrices ─► 4x4 sums ─┐
     1x1   positions ────────────────────────────────────────────► one product of matrices ────────────┴─► + bias

   Kernels of 3x3 are computed by Winograd's F(4x4, 3x3): Lavin and Gray, "Fast algorithms for convolutional neural
   networks" (2016). The caller transforms the weights, by the G of nn/exact/compiled_floats.py. */

#include "instructions.h"
#include "kernel.h"
#include <string.h>
#if HAS_AVX2
#include <immintrin.h>
#endif

#define SIDE 6 /* of a tile's inputs */
#define TILE 4 /* of its outputs */
#define POINTS (SIDE * SIDE)
#define LANES 8  /* channels transformed at once */
#define BLOCK 16 /* outputs of a product */
#define ROWS 6   /* of a product: 12 vectors of sums leave registers for two of weights and a number */
#define LINE 64  /* bytes of a line of a cache */
#define MOST_TILES 24
#define STRIP_POSITIONS 192

enum { DONE = 0, BAD_LAYER = -1, BAD_ROWS = -2, SMALL_SCRATCH = -3 };

struct float_layer {
    int32_t inputs;
    int32_t outputs;
    int32_t kernel;       /* 1 or 3 */
    int32_t biased;       /* 0: no bias */
    const float *weights; /* (1 or POINTS, blocks, inputs, BLOCK), 0 beyond outputs */
    const float *bias;    /* (blocks, BLOCK) */
};

struct call {
    const struct float_layer *layer;
    const float *x; /* (height, width, inputs) */
    int64_t height, width;
    int64_t first, last; /* rows of out: from first, before last */
    float *out;          /* (height, width, outputs) */
    float *inputs;       /* scratch: a strip's, (POINTS, tiles, padded) */
    float *sums;         /* scratch: a strip's, (1 or POINTS, blocks, tiles or positions, BLOCK) */
    float *zeros;        /* scratch: a position outside */
};

static inline int64_t blocks_of(const struct float_layer *layer) { return (layer->outputs + BLOCK - 1) / BLOCK; }

static inline int64_t padded(const struct float_layer *layer) { return (layer->inputs + LANES - 1) / LANES * LANES; }

/* Numbers from one matrix to the next: an odd number of lines of a cache, as in convolution.c. */
static inline int64_t odd_lines(int64_t numbers)
{
    return ((numbers * 4 + LINE - 1) / LINE | 1) * LINE / 4;
}

/* A column or row of inputs, all channels of a vector. */
ALWAYS_INLINE void transform_six(const float *const x[SIDE], float to[restrict SIDE][LANES])
{
    const float *a = x[0], *b = x[1], *c = x[2], *d = x[3], *e = x[4], *f = x[5];
    for (int k = 0; k < LANES; k++) {
        to[0][k] = 4 * a[k] - 5 * c[k] + e[k];
        to[1][k] = d[k] + e[k] - 4 * (b[k] + c[k]);
        to[2][k] = 4 * (b[k] - c[k]) - d[k] + e[k];
        to[3][k] = 2 * (d[k] - b[k]) - c[k] + e[k];
        to[4][k] = 2 * (b[k] - d[k]) - c[k] + e[k];
        to[5][k] = 4 * b[k] - 5 * d[k] + f[k];
    }
}

/* A vector of channels of one tile's inputs; to: the first of POINTS results, `apart` from each other. */
ALWAYS_INLINE void transform_channels(const float *const from[POINTS], int64_t channel, float *to, int64_t apart)
{
    float half[SIDE][SIDE][LANES], whole[SIDE][LANES];
    const float *x[SIDE];
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
ALWAYS_INLINE void transform_inputs(const struct call *call, int64_t tile, int64_t place, int64_t apart)
{
    const int64_t inputs = call->layer->inputs, across = (call->width + TILE - 1) / TILE;
    const int64_t top = tile / across * TILE - 1, left = tile % across * TILE - 1;
    const float *from[POINTS];
    float rest[POINTS][LANES], *to = call->inputs + place * padded(call->layer);
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

/* A column or row of products: six vectors of a block, the results `step` apart. */
ALWAYS_INLINE void transform_to_four(const float *restrict x, int64_t apart, float *restrict to, int64_t step)
{
    const float *a = x, *b = x + apart, *c = x + 2 * apart, *d = x + 3 * apart, *e = x + 4 * apart;
    const float *f = x + 5 * apart;
    for (int k = 0; k < BLOCK; k++) {
        const float sum = b[k] + c[k], difference = b[k] - c[k];
        const float outer_sum = d[k] + e[k], outer_difference = d[k] - e[k];
        to[k] = a[k] + sum + outer_sum;
        to[k + step] = difference + 2 * outer_difference;
        to[k + 2 * step] = sum + 4 * outer_sum;
        to[k + 3 * step] = difference + 8 * outer_difference + f[k];
    }
}

/* A position's outputs of a block: sums and bias. */
ALWAYS_INLINE void put(const struct call *call, int64_t block, int64_t position, const float *restrict sums)
{
    const int64_t outputs = call->layer->outputs, left = outputs - block * BLOCK;
    const float *restrict bias = call->layer->bias + block * BLOCK;
    float done[BLOCK], *to = call->out + position * outputs + block * BLOCK;
    for (int k = 0; k < BLOCK; k++)
        done[k] = call->layer->biased ? sums[k] + bias[k] : sums[k];
    if (left >= BLOCK)
        memcpy(to, done, sizeof done);
    else
        memcpy(to, done, (size_t)left * sizeof *to);
}

/* The outputs of a block of one tile, from its products, `apart` from each other. */
ALWAYS_INLINE void finish_tile(const struct call *call, int64_t block, int64_t tile, const float *products,
                               int64_t apart)
{
    const int64_t across = (call->width + TILE - 1) / TILE;
    const int64_t top = tile / across * TILE, left = tile % across * TILE;
    float half[SIDE][TILE][BLOCK], sums[TILE][BLOCK];
    for (int row = 0; row < SIDE; row++)
        transform_to_four(products + row * SIDE * apart, apart, half[row][0], BLOCK);
    for (int column = 0; column < TILE && left + column < call->width; column++) {
        transform_to_four(half[0][column], TILE * BLOCK, sums[0], BLOCK);
        for (int row = 0; row < TILE && top + row < call->last; row++)
            put(call, block, (top + row) * call->width + left + column, sums[row]);
    }
}

/* A product of matrices: a (rows, inputs), a row every `stride` numbers, x w (inputs, BLOCK) = sums (rows, BLOCK). */
typedef void product_function(const float *a, int64_t stride, const float *w, int64_t inputs, int64_t rows, float *sums);

static inline void product_portable(const float *a, int64_t stride, const float *restrict w, int64_t inputs,
                                    int64_t rows, float *restrict sums)
{
    for (int64_t row = 0; row < rows; row++, a += stride, sums += BLOCK) {
        float sum[BLOCK] = {0};
        for (int64_t i = 0; i < inputs; i++)
            for (int k = 0; k < BLOCK; k++)
                sum[k] += a[i] * w[i * BLOCK + k];
        memcpy(sums, sum, sizeof sum);
    }
}

#if HAS_AVX2
#define FOR_FMA __attribute__((target("avx2,fma")))

FOR_FMA ALWAYS_INLINE void rows_fma(const float *a, int64_t stride, const float *w, int64_t inputs, float *sums,
                                    const int rows)
{
    __m256 sum[ROWS][2];
    for (int row = 0; row < rows; row++)
        sum[row][0] = sum[row][1] = _mm256_setzero_ps();
    for (int64_t i = 0; i < inputs; i++, w += BLOCK) {
        const __m256 low = _mm256_loadu_ps(w), high = _mm256_loadu_ps(w + BLOCK / 2);
        for (int row = 0; row < rows; row++) {
            const __m256 x = _mm256_broadcast_ss(a + row * stride + i);
            sum[row][0] = _mm256_fmadd_ps(x, low, sum[row][0]);
            sum[row][1] = _mm256_fmadd_ps(x, high, sum[row][1]);
        }
    }
    for (int row = 0; row < rows; row++) {
        _mm256_storeu_ps(sums + row * BLOCK, sum[row][0]);
        _mm256_storeu_ps(sums + row * BLOCK + BLOCK / 2, sum[row][1]);
    }
}

FOR_FMA static inline void product_fma(const float *a, int64_t stride, const float *w, int64_t inputs, int64_t rows,
                                       float *sums)
{
    for (; rows >= ROWS; rows -= ROWS, a += ROWS * stride, sums += ROWS * BLOCK)
        rows_fma(a, stride, w, inputs, sums, ROWS);
    switch (rows) {
    case 5: rows_fma(a, stride, w, inputs, sums, 5); break;
    case 4: rows_fma(a, stride, w, inputs, sums, 4); break;
    case 3: rows_fma(a, stride, w, inputs, sums, 3); break;
    case 2: rows_fma(a, stride, w, inputs, sums, 2); break;
    case 1: rows_fma(a, stride, w, inputs, sums, 1); break;
    default: break;
    }
}
#else
#define FOR_FMA
#define product_fma product_portable
#endif

/* `count` tiles or positions from `first` on. All blocks of a point follow one another: its inputs stay in the first
   cache, and each weight is read once a strip. */
ALWAYS_INLINE void convolve_strip(const struct call *call, int64_t first, int64_t count, product_function *product)
{
    const struct float_layer *layer = call->layer;
    const int64_t blocks = blocks_of(layer), points = layer->kernel == 3 ? POINTS : 1;
    const int64_t stride = layer->kernel == 3 ? padded(layer) : layer->inputs;
    const int64_t apart = odd_lines(count * stride), apart_sums = odd_lines(blocks * count * BLOCK);
    const float *weights = layer->weights;
    const float *inputs = layer->kernel == 3 ? call->inputs : call->x + first * layer->inputs;
    if (layer->kernel == 3)
        for (int64_t i = 0; i < count; i++)
            transform_inputs(call, first + i, i, apart);
    for (int64_t point = 0; point < points; point++)
        for (int64_t block = 0; block < blocks; block++, weights += layer->inputs * BLOCK)
            product(inputs + point * apart, stride, weights, layer->inputs, count,
                    call->sums + point * apart_sums + block * count * BLOCK);
    for (int64_t block = 0; block < blocks; block++) {
        const float *sums = call->sums + block * count * BLOCK;
        for (int64_t i = 0; i < count; i++, sums += BLOCK) {
            if (layer->kernel == 3)
                finish_tile(call, block, first + i, sums, apart_sums);
            else
                put(call, block, first + i, sums);
        }
    }
}

static inline int64_t strip_length(const struct float_layer *layer)
{
    return layer->kernel == 3 ? MOST_TILES : STRIP_POSITIONS;
}

ALWAYS_INLINE void convolve(const struct call *call, product_function *product)
{
    const int64_t across = call->layer->kernel == 3 ? (call->width + TILE - 1) / TILE : call->width;
    const int64_t down = call->layer->kernel == 3 ? TILE : 1, length = strip_length(call->layer);
    const int64_t end = (call->last + down - 1) / down * across;
    for (int64_t first = call->first / down * across; first < end; first += length)
        convolve_strip(call, first, end - first < length ? end - first : length, product);
}

static void convolve_portable(const struct call *call) { convolve(call, product_portable); }
FOR_FMA static void convolve_fma(const struct call *call) { convolve(call, product_fma); }

struct sizes {
    int64_t sums, inputs, zeros;
};

/* Of the parts of the scratch, in numbers. */
static struct sizes scratch_sizes(const struct float_layer *layer)
{
    const int64_t points = layer->kernel == 3 ? POINTS : 1, length = strip_length(layer);
    const int64_t inputs = layer->kernel == 3 ? points * odd_lines(length * padded(layer)) : 0;
    return (struct sizes){points * odd_lines(blocks_of(layer) * length * BLOCK), inputs, layer->inputs};
}

/* The bytes of scratch that lc_float_convolution needs. */
LC_EXPORT int64_t lc_float_convolution_scratch(const struct float_layer *layer)
{
    const struct sizes sizes = scratch_sizes(layer);
    return LINE + (sizes.sums + sizes.inputs + sizes.zeros) * 4;
}

/* Rows first to last - 1 of out; first must be a multiple of TILE. */
LC_EXPORT int32_t lc_float_convolution(int32_t instructions, const struct float_layer *layer, const float *x,
                                       int64_t height, int64_t width, int64_t first, int64_t last, float *out,
                                       void *scratch, int64_t scratch_bytes)
{
    struct call call = {layer, x, height, width, first, last, out, NULL, NULL, NULL};
    struct sizes sizes;
    if (layer->inputs < 1 || layer->outputs < 1 || (layer->kernel != 1 && layer->kernel != 3))
        return BAD_LAYER;
    if (first < 0 || first % TILE || last > height || width < 0)
        return BAD_ROWS;
    if (scratch_bytes < lc_float_convolution_scratch(layer))
        return SMALL_SCRATCH;
    sizes = scratch_sizes(layer);
    call.sums = (float *)(((uintptr_t)scratch + LINE - 1) / LINE * LINE);
    call.inputs = call.sums + sizes.sums;
    call.zeros = call.inputs + sizes.inputs;
    memset(call.zeros, 0, (size_t)sizes.zeros * sizeof *call.zeros);
#if HAS_AVX2
    if (instructions == AVX2) {
        convolve_fma(&call);
        return DONE;
    }
#else
    (void)instructions;
    (void)convolve_fma;
#endif
    convolve_portable(&call);
    return DONE;
}
