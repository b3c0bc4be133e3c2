/* A CUDA whose memory is this process's and whose kernels do nothing: what tests run ONNX Runtime's provider on, without
 * a GPU. The runtime's own code decides which nodes it takes, allocates, binds and copies; no result is computed.
 * Every other function of CUDA's libraries that the provider is linked with is made to return 0 (cuda_stub.py). */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICES = 1, VERSION = 13000, PROPERTIES_BYTES = 1008, ATTRIBUTES_BYTES = 88, ALIGNMENT = 256 };
/* Offsets in cudaDeviceProp of CUDA 13, and the values of a device of compute capability 8.0. */
enum { TOTAL_BYTES_AT = 288, WARP_AT = 308, THREADS_AT = 320, MAJOR_AT = 360, PROCESSORS_AT = 384 };
static const size_t MEMORY_BYTES = (size_t)1 << 33;

static int make(void **place) { *place = malloc(8); return 0; }

static int reserve(void **place, size_t bytes) {
  *place = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  return *place == NULL;
}

static int say(const char *what, int value) {
  if (getenv("CUDA_STUB_CALLS")) fprintf(stderr, "%s %d\n", what, value);
  return 0;
}

static int copy(void *to, const void *from, size_t bytes, int kind) {
  if (getenv("CUDA_STUB_CALLS")) fprintf(stderr, "copy %zu kind %d\n", bytes, kind);
  memmove(to, from, bytes);
  return 0;
}

int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = DEVICES; return 0; }
int cudaGetDeviceCount(int *count) { *count = DEVICES; return 0; }
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = VERSION; return 0; }
int cudaDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cudaMemGetInfo(size_t *left, size_t *total) { *left = *total = MEMORY_BYTES; return 0; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) { *value = 1; return 0; }
int cudaPointerGetAttributes(void *found, const void *pointer) { memset(found, 0, ATTRIBUTES_BYTES); return 0; }
int cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *kernel, int size, size_t bytes,
                                                            unsigned flags) {
  *blocks = 1;
  return 0;
}

int cudaGetDeviceProperties(char *found, int device) {
  memset(found, 0, PROPERTIES_BYTES);
  *(size_t *)(found + TOTAL_BYTES_AT) = MEMORY_BYTES;
  *(int *)(found + WARP_AT) = 32;
  *(int *)(found + THREADS_AT) = 1024;
  *(int *)(found + MAJOR_AT) = 8;
  *(int *)(found + PROCESSORS_AT) = 8;
  return 0;
}

int cudaMalloc(void **place, size_t bytes) { return reserve(place, bytes); }
int cudaMallocHost(void **place, size_t bytes) { return reserve(place, bytes); }
int cudaHostAlloc(void **place, size_t bytes, unsigned flags) { return reserve(place, bytes); }
int cudaFree(void *place) { free(place); return 0; }
int cudaFreeHost(void *place) { free(place); return 0; }
int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) { return copy(to, from, bytes, kind); }
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
  return copy(to, from, bytes, kind);
}
int cudaMemset(void *place, int value, size_t bytes) { memset(place, value, bytes); return 0; }
int cudaMemsetAsync(void *place, int value, size_t bytes, void *stream) { memset(place, value, bytes); return 0; }

int cudaStreamCreate(void **stream) { return make(stream); }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return make(stream); }
int cudaEventCreate(void **event) { return make(event); }
int cudaEventCreateWithFlags(void **event, unsigned flags) { return make(event); }
int cublasCreate_v2(void **handle) { return make(handle); }
int cublasSetMathMode(void *handle, int mode) { return say("math", mode); }
int cublasLtMatmulDescCreate(void **made, int compute, int scale) { return say("compute", compute) + make(made); }
int cublasGemmEx(void *handle, int a, int b, int m, int n, int k, const void *alpha, const void *x, int x_type, int ldx,
                 const void *y, int y_type, int ldy, const void *beta, void *z, int z_type, int ldz, int compute,
                 int algorithm) {
  return say("compute", compute);
}
int cublasGemmStridedBatchedEx(void *handle, int a, int b, int m, int n, int k, const void *alpha, const void *x,
                               int x_type, int ldx, long long stride_x, const void *y, int y_type, int ldy,
                               long long stride_y, const void *beta, void *z, int z_type, int ldz, long long stride_z,
                               int count, int compute, int algorithm) {
  return say("compute", compute);
}
int cublasLtCreate(void **handle) { return make(handle); }
void **__cudaRegisterFatBinary(void *binary) { static void *handle; return &handle; }

const char *cudaGetErrorString(int error) { return "stub"; }
const char *cudaGetErrorName(int error) { return "stub"; }
const char *cublasGetStatusName(int status) { return "stub"; }
const char *cublasGetStatusString(int status) { return "stub"; }
