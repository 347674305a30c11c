/* Weights as convolution.c takes them, 3x3 ones transformed by its matrix G.

     (outputs, inputs, kernel, kernel) ─► (block of 16 outputs, 1 or 36, pair of inputs, 16 outputs, 2)

   What a vector of outputs and a pair of inputs make up is transformed at once. */

#include "instructions.h"
#include "kernel.h"
#include "product.h"
#include <string.h>

#define NUMBERS (2 * BLOCK)

enum { DONE = 0, BAD_LAYER = -1 };

/* A column or row of a kernel through G. */
ALWAYS_INLINE void transform_three(const int16_t a[NUMBERS], const int16_t b[NUMBERS], const int16_t c[NUMBERS],
                                   int16_t to[restrict 6][NUMBERS])
{
    for (int k = 0; k < NUMBERS; k++) {
        const int16_t even = (int16_t)(a[k] + c[k]), wide = (int16_t)(a[k] + 4 * c[k]);
        to[0][k] = a[k];
        to[1][k] = (int16_t)(even + b[k]);
        to[2][k] = (int16_t)(even - b[k]);
        to[3][k] = (int16_t)(wide + 2 * b[k]);
        to[4][k] = (int16_t)(wide - 2 * b[k]);
        to[5][k] = c[k];
    }
}

/* to: the first of 36 results, `apart` from each other. */
static void transform_kernels(int16_t kernels[9][NUMBERS], int16_t *to, int64_t apart)
{
    int16_t half[3][6][NUMBERS], whole[6][NUMBERS];
    for (int column = 0; column < 3; column++)
        transform_three(kernels[column], kernels[3 + column], kernels[6 + column], half[column]);
    for (int row = 0; row < 6; row++) {
        transform_three(half[0][row], half[1][row], half[2][row], whole);
        for (int column = 0; column < 6; column++)
            memcpy(to + (6 * row + column) * apart, whole[column], sizeof whole[column]);
    }
}

/* to: as above, with zeros where there are no outputs or inputs. */
LC_EXPORT int32_t lc_convolution_weights(int64_t outputs, int64_t inputs, int64_t kernel, const int8_t *from,
                                         int16_t *to)
{
    const int64_t size = kernel * kernel, pairs = (inputs + 1) / 2, points = kernel == 3 ? 36 : 1;
    if (outputs < 1 || inputs < 1 || (kernel != 1 && kernel != 3))
        return BAD_LAYER;
    for (int64_t first = 0; first < outputs; first += BLOCK, to += points * pairs * NUMBERS) {
        for (int64_t pair = 0; pair < pairs; pair++) {
            int16_t kernels[9][NUMBERS];
            memset(kernels, 0, sizeof kernels);
            for (int64_t output = first; output < outputs && output < first + BLOCK; output++)
                for (int64_t input = 2 * pair; input < inputs && input < 2 * pair + 2; input++)
                    for (int64_t i = 0; i < size; i++)
                        kernels[i][2 * (output - first) + input % 2] = from[(output * inputs + input) * size + i];
            if (kernel == 3)
                transform_kernels(kernels, to + pair * NUMBERS, pairs * NUMBERS);
            else
                memcpy(to + pair * NUMBERS, kernels[0], sizeof kernels[0]);
        }
    }
    return DONE;
}
