/* ---- the cell: the same text for every model ---- */

#define STREAMTRAIN_ONE ((int32_t)1 << 20)

/* value / 2^bits, rounded to the nearest, halves away from zero: C99 leaves >> of a negative number to the compiler. */
static inline int64_t streamtrain_rounded(int64_t value, unsigned bits)
{
    const int64_t half = bits == 0u ? 0 : (int64_t)1 << (bits - 1u);
    return value < 0 ? -((half - value) >> bits) : (value + half) >> bits;
}

/* Product of two numbers with 20 fraction bits. */
static inline int64_t streamtrain_product(int64_t a, int64_t b)
{
    return streamtrain_rounded(a * b, 20u);
}

/* tanh, 20 fraction bits in and out. With t = tanh at the nearest knot, d the way from it and s = 1 - t^2, the first
   terms of Taylor's series: t + s d (1 - t d + (t^2 - 1/3) d^2). Knots lie 1/8 apart up to 8, where tanh is 1. */
static inline int32_t streamtrain_tanh(int64_t a)
{
    const int64_t size = a < 0 ? -a : a;
    int64_t knot, t, d, square, series;
    if (size >= (int64_t)8 << 20)
        return a < 0 ? -STREAMTRAIN_ONE : STREAMTRAIN_ONE;
    knot = (size + ((int64_t)1 << 16)) >> 17;
    t = streamtrain_knots[knot];
    d = size - (knot << 17);
    square = streamtrain_product(t, t);
    series = STREAMTRAIN_ONE - streamtrain_product(t, d)
             + streamtrain_product(square - STREAMTRAIN_ONE / 3, streamtrain_product(d, d));
    t += streamtrain_product(streamtrain_product(STREAMTRAIN_ONE - square, d), series);
    return (int32_t)(a < 0 ? -t : t);
}

/* One row of a matrix times a vector, brought to 20 fraction bits by the row's own scale, multiplier / 2^shift. */
static inline int64_t streamtrain_row(const int8_t *weights, const int32_t *vector, int n, uint16_t multiplier,
                                      uint8_t shift)
{
    int64_t sum = 0;
    int i;
    for (i = 0; i < n; ++i)
        sum += (int64_t)weights[i] * vector[i];
    return streamtrain_rounded(sum * multiplier, shift);
}

/* Features to standard deviations from their mean, 16 fraction bits. */
static inline void streamtrain_normalise(const int32_t *x, int32_t *z)
{
    int j;
    for (j = 0; j < STREAMTRAIN_FEATURES; ++j) {
        const int64_t away = (int64_t)x[j] - streamtrain_mean[j];
        int64_t scaled = streamtrain_rounded(away * (int64_t)streamtrain_ratio[j], streamtrain_ratio_shift[j]);
        if (scaled > STREAMTRAIN_Z_LIMIT)
            scaled = STREAMTRAIN_Z_LIMIT;
        else if (scaled < -STREAMTRAIN_Z_LIMIT)
            scaled = -STREAMTRAIN_Z_LIMIT;
        z[j] = (int32_t)scaled;
    }
}

/* What a gate's row sees of the input, halved: sigmoid(a) = (1 + tanh(a / 2)) / 2. */
static inline int32_t streamtrain_gate(const int8_t *weights, const int32_t *z, uint16_t multiplier, uint8_t shift,
                                       int32_t bias)
{
    return streamtrain_tanh(streamtrain_row(weights, z, STREAMTRAIN_FEATURES, multiplier, shift) + bias);
}

/* One step. h: hidden states before it and, when it returns, after it; a null pointer: a request by itself. */
static inline int32_t streamtrain_run(const int32_t *x, int32_t *h)
{
    int32_t z[STREAMTRAIN_FEATURES];
    int64_t sum = 0;
    int i;
#if STREAMTRAIN_SESSIONS
    int32_t remembered[STREAMTRAIN_HIDDEN];
#endif
    streamtrain_normalise(x, z);
#if STREAMTRAIN_SESSIONS
    for (i = 0; h && i < STREAMTRAIN_HIDDEN; ++i) {
        const int64_t reset = streamtrain_gate(streamtrain_reset_w[i], z, streamtrain_reset_m[i],
                                               streamtrain_reset_s[i], streamtrain_reset_b[i]);
        remembered[i] = (int32_t)streamtrain_rounded((STREAMTRAIN_ONE + reset) * h[i], 21u);
    }
#endif
    for (i = 0; i < STREAMTRAIN_HIDDEN; ++i) {
        const int64_t update = streamtrain_gate(streamtrain_update_w[i], z, streamtrain_update_m[i],
                                                streamtrain_update_s[i], streamtrain_update_b[i]);
        int64_t a = streamtrain_row(streamtrain_candidate_w[i], z, STREAMTRAIN_FEATURES, streamtrain_candidate_m[i],
                                    streamtrain_candidate_s[i]) + streamtrain_candidate_b[i];
        int64_t kept = 0, state;
#if STREAMTRAIN_SESSIONS
        if (h) {
            a += streamtrain_row(streamtrain_recurrent_w[i], remembered, STREAMTRAIN_HIDDEN, streamtrain_recurrent_m[i],
                                 streamtrain_recurrent_s[i]);
            kept = (STREAMTRAIN_ONE + update) * h[i];
        }
#endif
        state = streamtrain_rounded(kept + (STREAMTRAIN_ONE - update) * streamtrain_tanh(a), 21u);
        if (h)
            h[i] = (int32_t)state;
        sum += streamtrain_output_w[i] * state;
    }
    sum = streamtrain_rounded(sum * STREAMTRAIN_OUTPUT_M, STREAMTRAIN_OUTPUT_S) + STREAMTRAIN_OUTPUT_B;
    return (STREAMTRAIN_ONE + streamtrain_tanh(sum) + 1) / 2;
}

/* ---- what a program calls ---- */

/* Confidence that the lightweight model is good enough, 0 .. STREAMTRAIN_ONE. x: as the table of features says. */
static inline int32_t streamtrain_score(const int32_t x[STREAMTRAIN_FEATURES])
{
    return streamtrain_run(x, (int32_t *)0);
}

#if STREAMTRAIN_SESSIONS
/* A session; all zeros starts one. */
typedef struct {
    int32_t h[STREAMTRAIN_HIDDEN];
} streamtrain_session;

/* The same for the next step of a session. */
static inline int32_t streamtrain_step(streamtrain_session *session, const int32_t x[STREAMTRAIN_FEATURES])
{
    return streamtrain_run(x, session->h);
}
#endif

/* Tiny Dancer's rule, and its defaults: 0.85 and 0.15. */
#ifndef STREAMTRAIN_THRESHOLD
#define STREAMTRAIN_THRESHOLD 891290
#endif
#ifndef STREAMTRAIN_MAX_UNCERTAINTY
#define STREAMTRAIN_MAX_UNCERTAINTY 157286
#endif
static inline int streamtrain_use_lightweight(int32_t confidence)
{
    const int32_t off = confidence - STREAMTRAIN_ONE / 2;
    const int32_t uncertainty = STREAMTRAIN_ONE - 2 * (off < 0 ? -off : off);
    return confidence >= STREAMTRAIN_THRESHOLD && uncertainty <= STREAMTRAIN_MAX_UNCERTAINTY;
}

#ifdef STREAMTRAIN_FLOAT
/* Raw features to what the functions above take; out of range: the end of the range. 0 if one is not a number. */
static inline int streamtrain_from_float(const float *raw, int32_t x[STREAMTRAIN_FEATURES])
{
    int j;
    for (j = 0; j < STREAMTRAIN_FEATURES; ++j) {
        const float value = raw[j] * streamtrain_unit[j];
        if (!(value <= 0.0f || value >= 0.0f))
            return 0;
        if (value >= 2147483648.0f)
            x[j] = INT32_MAX;
        else if (value <= -2147483648.0f)
            x[j] = -INT32_MAX;
        else
            x[j] = (int32_t)(value < 0.0f ? value - 0.5f : value + 0.5f);
    }
    return 1;
}
#endif
