"""Networks compiled for CPUs by OpenVINO: writing, quantising and running them."""
