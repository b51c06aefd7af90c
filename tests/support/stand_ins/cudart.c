/* A stand-in of CUDA's runtime whose device is this computer's memory; only what `edgeopt_runner.engines._cuda` calls. */
#include <stdlib.h>
#include <string.h>

int cudaMalloc(void **address, size_t size) {
  if (size > (size_t)1 << 30) return 2;
  *address = malloc(size);
  return 0;
}
int cudaFree(void *address) { free(address); return 0; }
int cudaStreamCreate(void **stream) { *stream = malloc(1); return 0; }
int cudaStreamDestroy(void *stream) { free(stream); return 0; }
int cudaStreamSynchronize(void *stream) { return stream ? 0 : 400; }
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
  if (!stream || (kind != 1 && kind != 2)) return 1;
  memcpy(to, from, size);
  return 0;
}
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  if (device != 0) return 101;
  *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 16 ? 16 : -1;
  return 0;
}
const char *cudaGetErrorString(int code) { return code == 2 ? "out of memory" : "invalid argument"; }
