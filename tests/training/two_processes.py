"""What each of two processes runs for test_processes.py: `RANK=0 ... python two_processes.py OUT CONFIG [CONFIG ...]`.

Every configuration is trained in `OUT/<number>`. Then each process writes what it saw to `OUT/rank<rank>.json`.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator

import poster_ada.training.loop as loop
from poster_ada.model.fusion import DropPath
from poster_ada.model.heads import AdaFaceHead
from poster_ada.training.recipe import TrainConfig

out, *configs = sys.argv[1:]
out = Path(out)
rank = Accelerator(cpu=True).process_index
seen = {"masks": [], "weights": [], "stages": []}


drop_path, train_epoch = DropPath.forward, loop.train_epoch


def watched_drop_path(self, x):
    y = drop_path(self, x)
    if self.training and 0 < self.p < 1:
        seen["masks"].append([int(kept) for kept in y.flatten(1).any(1)])
    return y


def watched_epoch(objective, *rest):
    row = train_epoch(objective, *rest)
    trained = torch.cat([p.detach().flatten() for p in objective.parameters() if p.requires_grad])
    seen["weights"].append([float(trained.double().sum()), float(trained.double().norm())])
    return row


DropPath.forward, loop.train_epoch = watched_drop_path, watched_epoch
for number, config in enumerate(configs):
    run = loop.train(TrainConfig.from_dict(json.loads(config)), out / str(number), device="cpu", quiet=True)
    seen["stages"].append([len(seen["masks"]), len(seen["weights"]), str(run.path)])

head = AdaFaceHead(4, 7, t_alpha=1.0)
head.update_statistics(torch.tensor([[1.0], [2.0]]) if rank == 0 else torch.tensor([[5.0], [12.0]]))
seen["statistics"] = [head.batch_mean.item(), head.batch_std.item()]
(out / f"rank{rank}.json").write_text(json.dumps(seen))
dist.destroy_process_group()
