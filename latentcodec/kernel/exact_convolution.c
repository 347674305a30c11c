/* Sums of products of exact maps: doubles that hold integers, every sum below 2^53, so that any order is exact, and so
   is a product that is added without being rounded (FMA).

     x (height, width, I of `from`) ─► up to 6 positions x 9 neighbours ─► products ─► out (height, width, O of `to`)

   The map may have more channels than are read or written: planes of it are convolved apart. */

#include "instructions.h"
#include "kernel.h"
#include <string.h>
#if HAS_AVX2
#include <immintrin.h>
#endif

#define BLOCK 8 /* outputs of a product */
#define ROWS 6  /* positions of a product: 12 vectors of sums leave registers for two of weights and a number */
#define MOST_TAPS 9

enum { DONE = 0, BAD_SIZE = -1 };

struct call {
    const double *x; /* (height, width, inputs), positions x_apart from each other */
    int64_t x_apart, inputs;
    double *out; /* (height, width, outputs), positions out_apart from each other */
    int64_t out_apart, outputs;
    int64_t height, width, kernel; /* kernel: 1 or 3 */
    int64_t first, last;           /* rows of out: from first, before last */
    const double *weights;         /* (blocks, taps, inputs, BLOCK), 0 beyond outputs */
    const double *zeros;           /* (inputs), a position outside */
};

/* Sums of one block at `rows` positions; from: each tap's inputs of each position. */
typedef void product_function(const double *const from[MOST_TAPS][ROWS], int64_t taps, int64_t inputs,
                              const double *w, double sums[ROWS][BLOCK]);

static inline void product_portable(const double *const from[MOST_TAPS][ROWS], int64_t taps, int64_t inputs,
                                    const double *restrict w, double sums[ROWS][BLOCK])
{
    memset(sums, 0, ROWS * sizeof sums[0]);
    for (int64_t tap = 0; tap < taps; tap++)
        for (int64_t i = 0; i < inputs; i++, w += BLOCK)
            for (int row = 0; row < ROWS; row++)
                for (int k = 0; k < BLOCK; k++)
                    sums[row][k] += from[tap][row][i] * w[k];
}

#if HAS_AVX2
#define FOR_FMA __attribute__((target("avx2,fma")))

FOR_FMA static inline void product_fma(const double *const from[MOST_TAPS][ROWS], int64_t taps, int64_t inputs,
                                       const double *w, double sums[ROWS][BLOCK])
{
    __m256d sum[ROWS][2];
    for (int row = 0; row < ROWS; row++)
        sum[row][0] = sum[row][1] = _mm256_setzero_pd();
    for (int64_t tap = 0; tap < taps; tap++) {
        const double *x[ROWS]; /* in registers: the loop below is unrolled */
        memcpy(x, from[tap], sizeof x);
        for (int64_t i = 0; i < inputs; i++, w += BLOCK) {
            const __m256d low = _mm256_loadu_pd(w), high = _mm256_loadu_pd(w + BLOCK / 2);
            for (int row = 0; row < ROWS; row++) {
                const __m256d number = _mm256_broadcast_sd(x[row] + i);
                sum[row][0] = _mm256_fmadd_pd(number, low, sum[row][0]);
                sum[row][1] = _mm256_fmadd_pd(number, high, sum[row][1]);
            }
        }
    }
    for (int row = 0; row < ROWS; row++) {
        _mm256_storeu_pd(sums[row], sum[row][0]);
        _mm256_storeu_pd(sums[row] + BLOCK / 2, sum[row][1]);
    }
}
#else
#define FOR_FMA
#define product_fma product_portable
#endif

/* `count` positions of a row, up to ROWS; the sums of those beyond are not kept. */
ALWAYS_INLINE void convolve_positions(const struct call *call, int64_t row, int64_t column, int64_t count,
                                      product_function *product)
{
    const int64_t edge = call->kernel / 2, taps = call->kernel * call->kernel;
    const double *from[MOST_TAPS][ROWS], *weights = call->weights;
    double sums[ROWS][BLOCK];
    for (int64_t tap = 0; tap < taps; tap++) {
        const int64_t y = row + tap / call->kernel - edge;
        for (int64_t i = 0; i < ROWS; i++) {
            const int64_t x = column + i + tap % call->kernel - edge;
            const int inside = i < count && y >= 0 && y < call->height && x >= 0 && x < call->width;
            from[tap][i] = inside ? call->x + (y * call->width + x) * call->x_apart : call->zeros;
        }
    }
    for (int64_t first = 0; first < call->outputs; first += BLOCK, weights += taps * call->inputs * BLOCK) {
        const int64_t left = call->outputs - first, size = left < BLOCK ? left : BLOCK;
        double *to = call->out + (row * call->width + column) * call->out_apart + first;
        product(from, taps, call->inputs, weights, sums);
        for (int64_t i = 0; i < count; i++)
            memcpy(to + i * call->out_apart, sums[i], (size_t)size * sizeof *to);
    }
}

ALWAYS_INLINE void convolve(const struct call *call, product_function *product)
{
    for (int64_t row = call->first; row < call->last; row++)
        for (int64_t column = 0; column < call->width; column += ROWS) {
            const int64_t left = call->width - column;
            convolve_positions(call, row, column, left < ROWS ? left : ROWS, product);
        }
}

static void convolve_portable(const struct call *call) { convolve(call, product_portable); }
FOR_FMA static void convolve_fma(const struct call *call) { convolve(call, product_fma); }

/* x, out: at the first channel that is read or written, x_apart and out_apart channels a position. zeros: (inputs). */
LC_EXPORT int32_t lc_exact_convolution(int32_t instructions, const double *x, int64_t x_apart, int64_t inputs,
                                       double *out, int64_t out_apart, int64_t outputs, int64_t height, int64_t width,
                                       int64_t first, int64_t last, int64_t kernel, const double *weights,
                                       const double *zeros)
{
    const struct call call = {x,      x_apart, inputs, out,   out_apart, outputs, height,
                              width,  kernel,  first,  last,  weights,   zeros};
    if (inputs < 1 || outputs < 1 || x_apart < inputs || out_apart < outputs || (kernel != 1 && kernel != 3))
        return BAD_SIZE;
    if (first < 0 || last > height || width < 0)
        return BAD_SIZE;
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
