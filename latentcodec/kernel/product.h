/* A product of matrices of integers, for convolution.c: int16 times int16, summed in 32 bits modulo 2^32.

     a (rows, pairs, 2), a row every `stride` numbers   x   w (pairs, BLOCK, 2)   =   sums (rows, BLOCK)

   A pair of a row meets a vector of outputs: one instruction multiplies and adds both (pmaddwd). Two products fit
   32 bits; their sums may wrap. */

#ifndef LATENTCODEC_PRODUCT_H
#define LATENTCODEC_PRODUCT_H

#include "instructions.h"
#include <string.h>
#if HAS_AVX2
#include <immintrin.h>
#endif

#define BLOCK 16    /* outputs */
#define MOST_ROWS 6 /* at once: 12 vectors of sums leave registers for two of weights and a pair */
#define PORTABLE_ROWS 4

typedef void product_function(const int16_t *a, int64_t stride, const int16_t *w, int64_t pairs, int64_t rows,
                              uint32_t *sums);

/* All rows of a, `most` at once. */
#define IN_BLOCKS_OF_ROWS(product_of_rows, most)                              \
    for (; rows >= (most); rows -= (most)) {                                  \
        product_of_rows(a, stride, w, pairs, sums, most);                     \
        a += (most) * stride;                                                 \
        sums += (most) * BLOCK;                                               \
    }                                                                         \
    switch (rows) {                                                           \
    case 5: product_of_rows(a, stride, w, pairs, sums, 5); break;             \
    case 4: product_of_rows(a, stride, w, pairs, sums, 4); break;             \
    case 3: product_of_rows(a, stride, w, pairs, sums, 3); break;             \
    case 2: product_of_rows(a, stride, w, pairs, sums, 2); break;             \
    case 1: product_of_rows(a, stride, w, pairs, sums, 1); break;             \
    default: break;                                                           \
    }

ALWAYS_INLINE void rows_portable(const int16_t *a, int64_t stride, const int16_t *restrict w, int64_t pairs,
                                 uint32_t *restrict sums, const int rows)
{
    uint32_t sum[MOST_ROWS][BLOCK];
    memset(sum, 0, sizeof sum);
    for (int64_t pair = 0; pair < pairs; pair++, w += 2 * BLOCK) {
        for (int row = 0; row < rows; row++) {
            const int32_t first = a[row * stride + 2 * pair], second = a[row * stride + 2 * pair + 1];
            for (int k = 0; k < BLOCK; k++)
                sum[row][k] += (uint32_t)(first * w[2 * k]) + (uint32_t)(second * w[2 * k + 1]);
        }
    }
    memcpy(sums, sum, sizeof sum[0] * (size_t)rows);
}

static inline void product_portable(const int16_t *a, int64_t stride, const int16_t *w, int64_t pairs,
                                    int64_t rows, uint32_t *sums)
{
    IN_BLOCKS_OF_ROWS(rows_portable, PORTABLE_ROWS)
}

#if HAS_AVX2
FOR_AVX2 ALWAYS_INLINE void rows_avx2(const int16_t *a, int64_t stride, const int16_t *w, int64_t pairs,
                                      uint32_t *sums, const int rows)
{
    __m256i sum[MOST_ROWS][2];
    for (int row = 0; row < rows; row++)
        sum[row][0] = sum[row][1] = _mm256_setzero_si256();
    for (int64_t pair = 0; pair < pairs; pair++, w += 2 * BLOCK) {
        const __m256i low = _mm256_loadu_si256((const __m256i *)w);
        const __m256i high = _mm256_loadu_si256((const __m256i *)(w + BLOCK));
        for (int row = 0; row < rows; row++) {
            int32_t both;
            memcpy(&both, a + row * stride + 2 * pair, sizeof both);
            const __m256i x = _mm256_set1_epi32(both);
            sum[row][0] = _mm256_add_epi32(sum[row][0], _mm256_madd_epi16(x, low));
            sum[row][1] = _mm256_add_epi32(sum[row][1], _mm256_madd_epi16(x, high));
        }
    }
    for (int row = 0; row < rows; row++) {
        _mm256_storeu_si256((__m256i *)(sums + row * BLOCK), sum[row][0]);
        _mm256_storeu_si256((__m256i *)(sums + row * BLOCK + BLOCK / 2), sum[row][1]);
    }
}

FOR_AVX2 static inline void product_avx2(const int16_t *a, int64_t stride, const int16_t *w, int64_t pairs,
                                         int64_t rows, uint32_t *sums)
{
    IN_BLOCKS_OF_ROWS(rows_avx2, MOST_ROWS)
}
#else
#define product_avx2 product_portable
#endif

#endif
