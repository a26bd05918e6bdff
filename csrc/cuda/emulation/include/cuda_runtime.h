// <cuda_runtime.h> of an emulated build: the runtime's functions, launching, and the device side of CUDA C++.
#pragma once

#include "cuda_runtime_api.h"
#include "device/atomics.h"
#include "device/builtins.h"
#include "device/intrinsics.h"
#include "device/qualifiers.h"
#include "device/warp.h"
#include "launch.h"
