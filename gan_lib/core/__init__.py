"""What everything else stands on: hooks, tensors and artifacts on disk, devices, masked images, Grad-CAM."""
