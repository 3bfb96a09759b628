.PHONY: run cluster test test-rdma bench bench-rdma bench-cluster bench-control soak

DURATION ?= 30

run: ## the main job, for DURATION seconds: exchange → DPDK → cache → gRPC, then compare
	@scripts/run $(DURATION)

cluster: ## three nodes and etcd in network namespaces, or with LINK=rdma in a guest, for DURATION seconds; KILL_AFTER=10
	@scripts/cluster $(DURATION)

test: ## format, clippy with warnings as errors, all tests
	@scripts/test

test-rdma: ## the tests that need RDMA devices, in a guest that has them, or on RDMA_DEVICE=NAME
	@scripts/test-rdma

bench: ## measure against others, in one run
	@scripts/bench

bench-rdma: ## RDMA beside perftest, replication beside bare RDMA: in a guest, or on RDMA_DEVICE=NAME
	@scripts/bench-rdma

bench-cluster: ## how long a group stands still, 50 hand-overs and 50 kills
	@scripts/bench-cluster

bench-control: ## fan-out against nats-server and redis-server, subscriptions, calls, quotas
	@scripts/bench-control

soak: ## ten minutes of fuzzing for each target, a thousand seeds
	@scripts/soak
