// A backend that was built for another interface of the engine.
extern "C" __attribute__((visibility("default"))) int lrengine_cuda_interface() { return -7; }
