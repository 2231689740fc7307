/* The contract between the C files: the functions that they offer each other, and the layout of memory.
 *
 * Matrices are packed in panels (BLIS's micro-panels). A panel is `panel` columns, two vectors' worth, of all rows, row
 * after row; a matrix is its panels one after the other. The weights W (n_in, n_out), their transposes WT (n_out, n_in)
 * and a chunk of rows of activations A and deltas D (rows, width) are stored so. W is packed once per call and X once
 * per batch; everything else is computed in panels, so every product of a step reads and writes whole panels
 * contiguously:
 *
 *     Z  = A @ W         broadcasts elements of A, and multiplies them with rows of a panel of W
 *     dA = D @ WT        broadcasts elements of D, and multiplies them with rows of a panel of WT
 *     dW = A.T @ D       broadcasts elements of A, and multiplies them with rows of a panel of D
 *
 * The padding columns of the last panel hold arbitrary elements, which never reach a valid column. */
#ifndef BRISK_H
#define BRISK_H

#include "isa/isas.h"
#include "runtime/pool.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t divide_up(int64_t n, int64_t by) {
    return n / by + (n % by != 0);
}

/* --- instruction sets: cpu.c ------------------------------------------------------------------------------------- */

extern const char* const brisk_isa_names[BRISK_ISA_COUNT];

/* Bit i is set if ISA i can run here: the processor has it and the operating system saves its registers. Before its
 * first AMX tile the process must still ask for permission. */
unsigned brisk_isas_can_run(void);

/* Ask for permission to use AMX's tiles, for this process and its forks. Linux refuses while any thread has a signal
 * stack too small for them, and this returns false. A permission stays, and may be asked for again. */
bool brisk_permits_tiles(void);

enum brisk_precision { BRISK_HIGHEST, BRISK_HIGH, BRISK_BFLOAT16 }; /* the others need float32 */

/* The fastest of these ISAs that has kernels for this precision and has been measured. What multiplies bfloat16 only
 * has none for the highest, except AMX, which computes it in three splits but has not been measured. */
enum brisk_isa brisk_isa_should_run(unsigned isas, enum brisk_precision precision);

/* --- the plan: briskmlp/plan.py in C ----------------------------------------------------------------------------- */

enum brisk_bias { BRISK_BIAS_NEURON, BRISK_BIAS_LAYER, BRISK_BIAS_NONE };
/* What a batch's gradient, a sum over its rows, is divided by: Σ weight, the number of rows, or 1. */
enum brisk_divisor { BRISK_DIVISOR_WEIGHT, BRISK_DIVISOR_ROWS, BRISK_DIVISOR_NOTHING };

/* An activation has up to so many parameters; a rule so many hyperparameters, slots and scalars. */
enum { BRISK_PARAMETERS = 2, BRISK_HYPER = 8, BRISK_SLOTS = 3, BRISK_SCALARS = 1 };

#define ACTIVATION(NAME, ...) BRISK_##NAME,
enum brisk_activation {
#include "operations.def"
    BRISK_ACTIVATIONS,
    BRISK_BY_SLOPE = BRISK_ACTIVATIONS /* any, in the backward pass, where f'(Z) is saved */
};
#define LOSS(NAME, ...) BRISK_##NAME,
enum brisk_loss {
#include "operations.def"
    BRISK_LOSSES
};
#define RULE(NAME, ...) BRISK_##NAME,
enum brisk_rule {
#include "operations.def"
    BRISK_RULES
};

/* Where an activation may stand, and what its backward pass reads (operations.def). */
enum brisk_where { BRISK_ANYWHERE, BRISK_OUTPUT };
enum brisk_saves { BRISK_SAVES_NOTHING, BRISK_SAVES_A, BRISK_SAVES_EXACT_A, BRISK_SAVES_SLOPE };

static const struct {
    enum brisk_where where;
    enum brisk_saves saves;
} brisk_activations[BRISK_ACTIVATIONS + 1] = {
#define ACTIVATION(NAME, where, saves, ...) [BRISK_##NAME] = {BRISK_##where, BRISK_SAVES_##saves},
#include "operations.def"
    [BRISK_BY_SLOPE] = {BRISK_OUTPUT, BRISK_SAVES_SLOPE},
};

/* Of a loss that is a sum of functions of one A - Y each, for any output but softmax; 0 of others. */
static const int brisk_error_factors[BRISK_LOSSES] = {
#define LOSS(NAME, factor, ...) [BRISK_##NAME] = factor,
#include "operations.def"
};

static const struct {
    int slots, scalars;
} brisk_rules[BRISK_RULES] = {
#define RULE(NAME, slots, scalars, ...) [BRISK_##NAME] = {slots, scalars},
#include "operations.def"
};

/* Whether the backward pass has a loop of its own for this activation of a hidden layer, which reads A. */
static inline bool brisk_reads_A(enum brisk_activation f) {
    const enum brisk_saves saves = brisk_activations[f].saves;
    return brisk_activations[f].where == BRISK_ANYWHERE && (saves == BRISK_SAVES_A || saves == BRISK_SAVES_EXACT_A);
}

struct brisk_plan {
    int64_t n_layers, n_parameters, batch_size, n_slots, n_scalars;
    enum brisk_bias bias;
    enum brisk_loss loss;
    enum brisk_divisor divisor;
    enum brisk_rule rule;
    enum brisk_precision precision;
    bool decoupled, shuffle, report_rows;
    uint64_t seed;
    double huber, loss_scale, report_scale;
    double hyper[BRISK_HYPER];      /* of the rule, in the order of briskmlp/operations/rules.py */
    double clip_norm, clip_epsilon; /* INFINITY for none; what is added to the norm */
    double clip_probability; /* p > 0: cross-entropy reports A clipped to p … 1 - p, as scikit-learn does; 0: exact */
};

/* What the threads divide: panels of what is computed; rows of the chunk; or, of dW, panels of the layer's inputs. */
enum brisk_division { BRISK_BY_PANELS, BRISK_BY_ROWS, BRISK_BY_INPUTS };

/* How a layer of a layer-parallel step is divided among threads (schedule.c). parts.h has each thread's share. */
struct brisk_schedule {
    enum brisk_division forward, dX, dW; /* the lowest layer has no dX */
    int64_t grain;                       /* rows of the outputs are divided in multiples of it */
    bool wait;                           /* before the forward pass, which reads what other threads have written */
};

/* One layer of weights. Offsets count elements: dense_ ones in the user's parameters, the others in packed ones. */
struct brisk_layer {
    int64_t n_in, n_out;
    enum brisk_activation activation;
    double parameters[BRISK_PARAMETERS]; /* of the activation */
    bool saves_slope;                    /* whether training saves f'(Z), and the backward pass reads it instead of A */
    int64_t dense_W, dense_b, n_b;
    int64_t panels_in, panels; /* panels of n_in and n_out columns */
    int64_t W, W_panel;        /* the weights; elements in each of their panels */
    int64_t b, b_size;         /* the biases: whole panels, or one bias that the layer shares */
    int64_t WT, WT_panel;      /* in the workspace's WT; the lowest layer has none */
    int64_t first_block;       /* index of the first of its panels_in * panels blocks of (panel, panel) weights */
    int64_t threshold;         /* a unit is dropped after this layer if its 16-bit random number is below this */
    double rate_W, rate_b, decay_W, decay_b;
    double plan_l2, l2; /* l2 is the plan's, or 0 in a call without the penalty */
    struct brisk_schedule schedule;
};

/* --- the workspace: layout.c ------------------------------------------------------------------------------------- */

struct brisk_kernels;

/* The activations and deltas of one chunk of rows: A[l] (rows, width l), l = 0 … n_layers, and three buffers of deltas,
 * used in turn. Behind each lie its splits, if there are several (pack_f32_template.h, pack_bf16_template.h). S[l], of
 * the shape of A[l], is f'(Z) where that is saved, and otherwise NULL. */
struct brisk_space {
    void **A, **S;
    void* D[3];
    void* C;        /* a block of a product, where it is not written in place */
    void* block;    /* (panel, panel): the gradient of one block of weights */
    double* losses; /* one for each BRISK_LOSS_ROWS rows */
};

enum { BRISK_LOSS_ROWS = 16 }; /* their losses are added up in the dtype, and these sums in float64 */

/* The memory for calls over up to `n` rows. Only one call at a time may use it. */
struct brisk_work {
    struct brisk_plan plan;
    struct brisk_layer* layers; /* they lie behind this struct */
    const struct brisk_kernels* kernels;
    int64_t n;
    atomic_bool busy; /* used by a call */
    bool training;
    bool rounds;          /* whether products read splits of the elements */
    int splits;           /* how many; 1 where there are none */
    int threads;          /* as many as the shape is worth, at most those asked for */
    bool shared;          /* all threads share one space, of which each has a view; otherwise each has its own */
    bool own_rows;        /* each view has its own A[0] */
    int64_t rows;         /* rows of a chunk, at most */
    int64_t panel_stride; /* elements from one panel of activations or deltas to the next */
    int64_t delta_panels; /* panels of the widest delta, for which each buffer has room */
    int64_t n_packed, n_transposed, n_blocks; /* elements of packed parameters and of WT; blocks of weights */
    int64_t n_shards;     /* shards of a batch's rows, each with a partial gradient; 1 where the batch is not divided */
    void *P, *S, *G, *WT; /* packed: parameters, n_slots of state, n_shards gradients, transposed weights */
    void* R;              /* P as products read it: P itself, or its splits, one after the other, as in WT */
    struct brisk_space* spaces; /* one for each thread */
    double* penalties;          /* Σ W² of each block of weights */
    double* squares;            /* Σ g² of each block and its biases, where the norm is clipped */
    double* partial_losses;     /* of each shard, or of each chunk of a call that trains nothing */
    int64_t* order;             /* (n,) the order of the epoch in progress */
    int64_t order_epoch;        /* the epoch that it belongs to, or -1 */
    void* memory;
    size_t size;     /* bytes of `memory` */
    int64_t* record; /* of a profiled training, for each thread; owned by the caller (profile.h) */
};

/* Decide the schedule of chunks of up to m rows for up to so many threads, from the layers' panels and own_rows. */
void brisk_set_schedule(struct brisk_work* work, int64_t m, int threads);

/* Return a workspace, or NULL when memory is short; or, if `measure`, one without memory, which can only be asked for
 * its size, 0 where that overflows. The caller fills in n_in, n_out, activation, parameters, dense_*, n_b and the
 * multipliers of n_layers layers, and has checked that no width or offset is negative. */
struct brisk_work* brisk_work_new(const struct brisk_kernels* kernels, const struct brisk_plan* plan,
                                  const struct brisk_layer* layers, int64_t n, bool training, int threads,
                                  bool measure);
void brisk_work_free(struct brisk_work* work);

/* For tests, else 0: which allocation from now on shall fail, and how many threads any shape gets. */
extern atomic_llong brisk_failing_allocation;
extern atomic_int brisk_forced_threads;

/* --- the kernels of one ISA and dtype: isa/kernels.c -------------------------------------------------------------- */

/* The data of a call: rows of X are X_step elements apart; Y (n, n_out) or labels (n,); weight (n,) or NULL. */
struct brisk_data {
    const void *X, *Y, *weight;
    const int64_t* labels;
    int64_t X_step;
};

/* Only the loss; also the gradient, in the workspace's first G; also the update. */
enum brisk_goal { BRISK_LOSS, BRISK_GRADIENT, BRISK_UPDATE };

/* m rows that share one loss; `scale` multiplies the gradient. `step` counts from 1; `rate` is the learning rate. The
 * first row is the place-th of its epoch; dropout, which only BRISK_UPDATE applies, depends on both. A step of
 * BRISK_UPDATE moves the rule's scalars. */
struct brisk_batch {
    const int64_t* rows;
    int64_t m;
    double scale, rate;
    int64_t step, epoch, place;
    enum brisk_goal goal;
    int64_t n_next;                /* rows of the next batch, behind these, to prefetch; may be 0 */
    double scalars[BRISK_SCALARS]; /* of the rule */
    const void* rule;              /* at this step (update_template.h) */
};

/* Every function is called by all threads of a team at once, and between begin and end, where there are these. None
 * allocates or fails. */
struct brisk_kernels {
    enum brisk_isa isa;
    enum brisk_precision precision; /* the highest that it computes in */
    size_t size;                    /* bytes of an element */
    int vnni;                       /* the VNNI factor: 1, or 2 where products read pairs of bfloat16 */
    int panel;                      /* columns in a panel */
    int rows;                       /* the rows of a chunk, and threads' shares of its losses, are multiples of it */
    int row_grain;                  /* threads' shares of its rows elsewhere are multiples of it */
    int64_t block;                  /* elements of a space's C; 0 where all is written in place */
    /* Set up the processor for a region, and restore it afterwards; or NULL. */
    void (*begin)(void);
    void (*end)(void);
    /* Pack a dense array that is laid out as the parameters, or unpack it. */
    void (*pack)(const struct brisk_work*, const struct brisk_team*, const void* dense, void* packed);
    void (*unpack)(const struct brisk_work*, const struct brisk_team*, const void* packed, void* dense);
    /* Write the copies of the packed parameters that products read: R, and in training WT. */
    void (*transpose)(const struct brisk_work*, const struct brisk_team*);
    /* Write the last activations of m rows to out (m, n_out), by one thread alone, in its own space. */
    void (*predict)(const struct brisk_work*, int space, const struct brisk_data*, const int64_t* rows, int64_t m,
                    void* out);
    /* The same for a few rows, from dense parameters, if not NULL. */
    void (*predict_few)(const struct brisk_work*, const void* params, const struct brisk_data*, const int64_t* rows,
                        int64_t m, void* out);
    /* Make a step; return the batch's un-normalised loss as it is reported, the same to every thread. */
    double (*step)(const struct brisk_work*, const struct brisk_team*, const struct brisk_data*, struct brisk_batch*);
    /* Whether this thread's share of a packed array is finite. */
    bool (*finite)(const struct brisk_work*, const struct brisk_team*, const void* packed);
    /* Σ weight of m rows. */
    double (*weigh)(const void* weight, const int64_t* rows, int64_t m);
    /* dense += packed, by one thread. */
    void (*add)(const struct brisk_work*, const void* packed, void* dense);
    /* Move dense parameters by one step, by one thread. */
    void (*update)(const struct brisk_plan*, const struct brisk_layer*, void* params, const void* grad, void* state,
                   double* scalars, int64_t step, double rate);
    /* See limits_template.h: FLOPs of one round of chains; the streams take n elements. */
    double chain_flops;
    double (*chains)(int64_t rounds);
    double (*stream_read)(const void* A, int64_t n);
    void (*stream_triad)(void* A, const void* B, const void* C, int64_t n);
};

/* The table for elements of so many bytes, 4 or 8; NULL for an ISA that this build lacks. */
const struct brisk_kernels* brisk_kernels_of(enum brisk_isa isa, size_t size);

/* --- the calls: epoch.c ------------------------------------------------------------------------------------------ */

/* The epoch in progress, its next batch, and the steps made in all. */
struct brisk_position {
    int64_t epoch, batch, step;
};

/* Of the epoch in progress; for report_rows, Σ of the batches' mean losses times their rows, and Σ rows. */
struct brisk_sums {
    double loss, divisor;
};

/* All that training changes. */
struct brisk_state {
    void *params, *slots;
    struct brisk_position* position;
    struct brisk_sums* sums;
    double* scalars; /* of the rule */
};

/* At most max_steps steps; rates and losses belong to n_epochs epochs, from the one in progress. `order` is the order
 * of this one epoch, or NULL for the built-in order of all. `per_step` is NULL, or has for each step the learning rate
 * and BRISK_HYPER hyperparameters, in place of rates and of the plan's. */
struct brisk_steps {
    const double* rates;
    double* losses;
    int64_t n_epochs, max_steps;
    const int64_t* order;
    int64_t n_order;
    const double* per_step;
};

/* The contract's functions (backends/contract.py). */
void brisk_forward(struct brisk_work* work, const void* params, const struct brisk_data* data, const int64_t* rows,
                   int64_t n_rows, void* out);
double brisk_gradient(struct brisk_work* work, const void* params, const struct brisk_data* data, const int64_t* rows,
                      int64_t n_rows, double scale, bool with_penalty, void* grad);

/* One step of dense parameters, which does not move the state's position and sums. */
void brisk_update(const struct brisk_kernels* kernels, const struct brisk_plan* plan, const struct brisk_layer* layers,
                  const struct brisk_state* state, const void* grad, int64_t step, double rate);

enum brisk_end { BRISK_DONE, BRISK_LOSS_NOT_FINITE, BRISK_WEIGHTS_NOT_FINITE };
/* On anything but BRISK_DONE the state is as it was, and `where` names epoch and batch. */
enum brisk_end brisk_train(struct brisk_work* work, const struct brisk_state* state, const struct brisk_data* data,
                           const struct brisk_steps* steps, struct brisk_position* where);

/* Run a region as brisk_pool_run does, on processors that are set up for these kernels. */
void brisk_run(const struct brisk_kernels* kernels, int threads, brisk_region* region, void* arg);

/* --- what a machine can do at best: limits.c --------------------------------------------------------------------- */

/* Per second. `threads` are those that were free to measure with, at most those asked for; 0 if memory is short. */
struct brisk_limits {
    int threads;
    double flops, read, triad; /* triad counts the two arrays read and the one written, as STREAM does */
};

/* Measure with these kernels, in about half a second. */
struct brisk_limits brisk_measure_limits(const struct brisk_kernels* kernels, int threads);

#endif
