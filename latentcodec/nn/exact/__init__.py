"""Networks in exact integer arithmetic: layers, and the engines that compute them."""
