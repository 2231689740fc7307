/* The contract between the C files: what each offers the others, and how everything lies in memory.
 *
 * Matrices lie in panels. A panel is `panel` = two vectors' worth of columns of all rows, row after row; a matrix is
 * its panels one after the other. So lie the weights W (n_in, n_out), their transposes WT (n_out, n_in), and a chunk of
 * rows of activations A and deltas D (rows, width). Every product of a training step then reads and writes whole
 * panels, contiguously, without packing anything:
 *
 *     Z  = A @ W         each tile of A broadcast, times a panel of W
 *     dA = D @ WT        each tile of D broadcast, times a panel of WT
 *     dW = A.T @ D       each tile of A broadcast, times a panel of D
 *
 * The columns that pad the last panel hold numbers of no meaning, which never reach a true column. */
#ifndef BRISK_H
#define BRISK_H

#include "isa/isas.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* --- instruction sets: cpu.c ------------------------------------------------------------------------------------- */

/* In the order of isas.h. */
extern const char* const brisk_isa_names[BRISK_ISA_COUNT];

/* What can run here: bit i is set if the processor has ISA i and the operating system saves its registers.
 * Has no side effect: before its first AMX tile the process must still ask for them. */
unsigned brisk_isas_can_run(void);

/* Ask for AMX's tiles, for this process and its forks; false where they are refused, as Linux does while any thread has
 * a signal stack too small for them. What was granted once stays so, and may be asked for again. */
bool brisk_permits_tiles(void);

enum brisk_precision { BRISK_HIGHEST, BRISK_HIGH, BRISK_BFLOAT16 }; /* the others need float32 */

/* What should run, of the set `isas`: the fastest that has kernels for this precision and has been measured. Those that
 * multiply bfloat16 alone have none for the highest; AMX, which computes it in three parts, waits for measurements. */
enum brisk_isa brisk_isa_should_run(unsigned isas, enum brisk_precision precision);

/* --- the plan: briskmlp/plan.py in C ----------------------------------------------------------------------------- */

enum brisk_activation {
    BRISK_SIGMOID,
    BRISK_TANH,
    BRISK_RELU,
    BRISK_IDENTITY,
    BRISK_SOFTMAX,
    BRISK_LEAKY_RELU,
    BRISK_EXP
};
enum brisk_loss { BRISK_MSE, BRISK_CROSS_ENTROPY, BRISK_POISSON, BRISK_ABSOLUTE_ERROR, BRISK_HUBER };
enum brisk_bias { BRISK_BIAS_NEURON, BRISK_BIAS_LAYER, BRISK_BIAS_NONE };
enum brisk_rule { BRISK_SGD, BRISK_MOMENTUM, BRISK_ADAM, BRISK_RMSPROP };

struct brisk_plan {
    int64_t n_layers, n_parameters, batch_size, n_slots;
    enum brisk_bias bias;
    enum brisk_loss loss;
    enum brisk_rule rule;
    enum brisk_precision precision;
    bool nesterov, lr_in_velocity, epsilon_hat, decoupled, shuffle, report_rows;
    uint64_t seed;
    double slope, huber, loss_scale, report_scale, momentum, beta1, beta2, epsilon;
    double clip_norm;        /* INFINITY for none */
    double clip_probability; /* p > 0: cross-entropy is told from A in p … 1 - p, as in scikit-learn; 0: exactly */
};

/* One layer of weights. Offsets count numbers: dense_ ones in the user's flat parameters, the others in packed ones. */
struct brisk_layer {
    int64_t n_in, n_out;
    enum brisk_activation activation, below; /* of this layer; of the one below, whose output it reads */
    int64_t dense_W, dense_b, n_b;
    int64_t panels_in, panels; /* that n_in and n_out columns fill */
    int64_t W, W_panel;        /* the weights; numbers in one of their panels */
    int64_t b, b_size;         /* the biases: of whole panels, or the layer's one */
    int64_t WT, WT_panel;      /* in the workspace's WT; the lowest layer has none */
    int64_t first_block;       /* number of the first of its panels_in * panels blocks of (panel, panel) weights */
    int64_t threshold;         /* a unit is dropped after this layer if its 16-bit random number is below; 0: none is */
    double rate_W, rate_b, decay_W, decay_b, l2;
};

/* --- the workspace: layout.c ------------------------------------------------------------------------------------- */

struct brisk_kernels;
struct brisk_team; /* pool.h */

/* The activations and deltas of one chunk of rows. A[l] (rows, width l), l = 0 … n_layers; three deltas, used in turn.
 * Behind each lie its parts, if there are several: see pack_f32_template.h and pack_bf16_template.h. */
struct brisk_space {
    void** A;
    void* D[3];
    void* C;        /* a block of a product, where it is not written in place */
    void* block;    /* (panel, panel): the gradient of one block of weights */
    double* losses; /* of each BRISK_LOSS_ROWS rows */
};

enum { BRISK_LOSS_ROWS = 16 }; /* whose losses are summed in the dtype; from there on in float64 */

/* All that calls over up to `n` rows need. One call at a time may use it. */
struct brisk_work {
    struct brisk_plan plan;
    struct brisk_layer* layers;
    const struct brisk_kernels* kernels;
    int64_t n;
    bool training;
    bool rounds;          /* whether products read parts of numbers, */
    int splits;           /* so many; else 1 */
    int threads;          /* that the shape deserves, at most those asked for */
    bool shared;          /* a team shares one space, of which each member has a view; else each has one for itself */
    bool own_rows;        /* the views have an A[0] each */
    int64_t rows;         /* of a chunk at most */
    int64_t panel_stride; /* numbers from one panel of activations or deltas to the next */
    int64_t delta_panels; /* of the widest delta, and of the memory that each has */
    int64_t n_packed, n_transposed, n_blocks; /* numbers of packed parameters, of WT; blocks of weights */
    int64_t n_shards;     /* a batch's rows in so many parts, each with a gradient of its own; 1 where it has one */
    void *P, *S, *G, *WT; /* packed: parameters; n_slots of state; n_shards gradients; transposed weights */
    void* R;              /* P as products read it: P itself, or in parts, which lie behind each other, as in WT */
    struct brisk_space* spaces; /* one for each thread */
    double* penalties;          /* Σ W² of each block of weights */
    double* squares;            /* Σ g² of each, with the biases beside it; where the norm is clipped */
    double* partial_losses;     /* of each slice, or of each chunk of a call that trains nothing */
    int64_t* order;             /* (n,) the order of the epoch in progress */
    int64_t order_epoch;        /* the epoch it belongs to; -1 for none */
    void* memory;
    size_t size, head_size; /* bytes of `memory`, and of this with its layers */
    int64_t* record;        /* of a profiled training, for each thread; the caller's. See profile.h */
};

/* Return a workspace, or NULL when memory is short. `layers` are n_layers with n_in, n_out, activation, below, dense_*
 * and n_b filled in, and the multipliers. The caller checked that no width or offset is negative. */
struct brisk_work* brisk_work_new(const struct brisk_kernels* kernels, const struct brisk_plan* plan,
                                  const struct brisk_layer* layers, int64_t n, bool training, int threads);
void brisk_work_free(struct brisk_work* work);

/* Bytes that such a workspace takes, without taking them; 0 where they are beyond counting. */
size_t brisk_work_size(const struct brisk_kernels* kernels, const struct brisk_plan* plan,
                       const struct brisk_layer* layers, int64_t n, bool training, int threads);

/* For tests: let the count-th allocation from now on fail, 0 none; and make teams of so many threads whatever the
 * shape deserves, 0 as it deserves. */
void brisk_fail_allocation(int64_t count);
void brisk_force_threads(int threads);

/* --- the kernels of one ISA and dtype: isa/kernels.c -------------------------------------------------------------- */

/* What is trained on or predicted: rows of X are X_step numbers apart; Y (n, n_out) or labels (n,); weight or NULL. */
struct brisk_data {
    const void *X, *Y, *weight;
    const int64_t* labels;
    int64_t X_step;
};

enum brisk_goal {
    BRISK_LOSS,     /* the loss alone */
    BRISK_GRADIENT, /* and the gradient, added up in the workspace's first G */
    BRISK_UPDATE    /* and the step */
};

/* m rows that share one loss; `scale` multiplies the gradient. `step` counts from 1; `rate` is the learning rate. The
 * first row is the place-th of its epoch: what is dropped depends on both, and nothing is but for BRISK_UPDATE. */
struct brisk_batch {
    const int64_t* rows;
    int64_t m;
    double scale, rate;
    int64_t step, epoch, place;
    enum brisk_goal goal;
    int64_t n_next; /* rows of the batch after this one, which follow, to be fetched into cache; may be 0 */
};

/* Every function is called by all members of a team at once, and, where there are begin and end, between these. None
 * allocates or fails. */
struct brisk_kernels {
    enum brisk_isa isa;
    enum brisk_precision precision; /* the highest that it computes in */
    size_t size;                    /* bytes of a number */
    int vnni;                       /* numbers in a word of what products read: 1, or 2 of bfloat16 */
    int panel;                      /* columns in a panel */
    int rows;                       /* a chunk's are a multiple of so many */
    int64_t block;                  /* numbers of a space's C; 0 where all is written in place */
    /* Set up the processor at the beginning of a region, and leave it as it was; or NULL. */
    void (*begin)(void);
    void (*end)(void);
    /* Pack dense numbers laid out as the parameters, or copy them back. */
    void (*pack)(const struct brisk_work*, const struct brisk_team*, const void* dense, void* packed);
    void (*unpack)(const struct brisk_work*, const struct brisk_team*, const void* packed, void* dense);
    /* Write what products read of the packed parameters: WT, where training, and R. */
    void (*transpose)(const struct brisk_work*, const struct brisk_team*);
    /* Write the last activations of m rows to out (m, n_out), by one member alone, in its own space. */
    void (*predict)(const struct brisk_work*, int space, const struct brisk_data*, const int64_t* rows, int64_t m,
                    void* out);
    /* The same for a few rows, from dense parameters, if not NULL. */
    void (*predict_few)(const struct brisk_work*, const void* params, const struct brisk_data*, const int64_t* rows,
                        int64_t m, void* out);
    /* Make a step; return the batch's un-normalised loss as it is reported, the same to every member. */
    double (*step)(const struct brisk_work*, const struct brisk_team*, const struct brisk_data*,
                   const struct brisk_batch*);
    /* Whether this member's share of the packed numbers is finite. */
    bool (*finite)(const struct brisk_work*, const struct brisk_team*, const void* packed);
    /* Σ weight of m rows. */
    double (*weigh)(const void* weight, const int64_t* rows, int64_t m);
    /* dense += packed, by one thread. */
    void (*add)(const struct brisk_work*, const void* packed, void* dense);
    /* Move dense parameters by one step, by one thread. */
    void (*update)(const struct brisk_plan*, const struct brisk_layer*, void* params, const void* grad, void* state,
                   int64_t step, double rate);
    /* See limits_template.h. FLOPs of one round of chains; the others take n numbers. */
    double chain_flops;
    double (*chains)(int64_t rounds);
    double (*stream_read)(const void* A, int64_t n);
    void (*stream_triad)(void* A, const void* B, const void* C, int64_t n);
};

/* The table for a number of so many bytes, 4 or 8; NULL for an ISA that this build lacks. */
const struct brisk_kernels* brisk_kernels_of(enum brisk_isa isa, size_t size);

/* --- the calls: epoch.c ------------------------------------------------------------------------------------------ */

/* Training's position, as in backends/contract.py: counts are epoch, batch, step; sums are Σ loss and Σ weight, or, for
 * report_rows, Σ of the batches' mean losses times their rows, and Σ rows. */
struct brisk_position {
    int64_t* counts;
    double* sums;
};

/* The contract's functions (backends/contract.py). `l2` has one number per tensor, as in the Plan. */
void brisk_forward(struct brisk_work* work, const void* params, const struct brisk_data* data, const int64_t* rows,
                   int64_t n_rows, void* out);
double brisk_gradient(struct brisk_work* work, const double* l2, const void* params, const struct brisk_data* data,
                      const int64_t* rows, int64_t n_rows, double scale, void* grad);

void brisk_update(const struct brisk_kernels* kernels, const struct brisk_plan* plan, const struct brisk_layer* layers,
                  void* params, const void* grad, void* state, int64_t step, double rate);

enum brisk_end { BRISK_DONE, BRISK_LOSS_NOT_FINITE, BRISK_WEIGHTS_NOT_FINITE };
/* On anything but BRISK_DONE params, state and position are as they were, and where[] names epoch and batch. */
enum brisk_end brisk_train(struct brisk_work* work, const double* l2, void* params, void* state,
                           const struct brisk_data* data, const int64_t* order, int64_t n_order,
                           struct brisk_position position, const double* rates, int64_t n_rates, int64_t max_steps,
                           double* losses, int64_t where[2]);

#endif
