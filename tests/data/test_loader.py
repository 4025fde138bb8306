"""The loader gives the same batches whatever the number of workers and processes, and wherever training resumes."""

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from face_sets import rafdb

from poster_ada.data.datasets import open_dataset
from poster_ada.data.loader import FaceLoader
from poster_ada.data.transforms import EvaluationTransform, TrainingTransform
from poster_ada.errors import InputError


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return open_dataset(rafdb(tmp_path_factory.mktemp("set"), train=45)).train


SMALL = TrainingTransform(64, 32, augmentation="adaface")


def epoch(loader, number=0):
    loader.set_epoch(number)
    return list(loader)


def same(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for one, two in zip(first, second, strict=True)
                                             for a, b in zip(one, two, strict=True))


def test_evaluation_visits_every_face_once_in_order(faces):
    loader = FaceLoader(faces, EvaluationTransform(64, 32), 10)
    batches = list(loader)
    assert len(loader) == len(batches) == 5 and batches[-1].images.shape == (5, 3, 32, 32)
    assert batches[0].labels.dtype == torch.int64 and batches[0].images.dtype == torch.float32
    assert torch.cat([batch.labels for batch in batches]).tolist() == faces.labels.tolist()
    image, label = faces[13]
    assert label == batches[1].labels[3]
    assert torch.equal(batches[1].images[3], EvaluationTransform(64, 32)(image[None])[0])


def test_order_and_augmentation_follow_seed_and_epoch(faces):
    def loader(seed):
        return FaceLoader(faces, SMALL, 16, shuffle=True, seed=seed)

    first = epoch(loader(1), 3)
    assert same(first, epoch(loader(1), 3))  # a fresh loader resumes at any epoch
    assert not torch.equal(first[0].labels, epoch(loader(1), 4)[0].labels)
    assert not torch.equal(first[0].labels, epoch(loader(2), 3)[0].labels)
    plain = FaceLoader(faces, EvaluationTransform(64, 32), 16, shuffle=True, seed=1)
    seen = torch.cat([batch.images for batch in epoch(plain, 3)]).flatten(1)
    every = torch.cat([batch.images for batch in FaceLoader(faces, EvaluationTransform(64, 32), 16)]).flatten(1)
    assert sorted(torch.cdist(seen, every).argmin(1).tolist()) == list(range(45))  # each face once
    fixed = FaceLoader(faces, SMALL, 16)
    assert not torch.equal(epoch(fixed, 0)[0].images, epoch(fixed, 1)[0].images)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_each_batch(faces, world_size):
    whole = epoch(FaceLoader(faces, SMALL, 14, shuffle=True), 2)
    parts = [epoch(FaceLoader(faces, SMALL, 14, shuffle=True, rank=rank, world_size=world_size), 2)
             for rank in range(world_size)]
    for number, batch in enumerate(whole):
        for field in range(3):
            assert torch.equal(batch[field], torch.cat([part[number][field] for part in parts]))
    with pytest.raises(InputError, match="cannot be shared"):
        FaceLoader(faces, SMALL, 14, rank=2, world_size=2)


def test_an_empty_part_of_the_last_batch(faces):
    loaders = [FaceLoader(faces, SMALL, 11, rank=rank, world_size=2) for rank in (0, 1)]
    last = [list(loader)[-1] for loader in loaders]  # 45 = 4 * 11 + 1
    assert [len(batch.labels) for batch in last] == [0, 1] and last[0].images.shape == (0, 3, 32, 32)


@pytest.mark.parametrize("workers", [0, 2])
def test_without_memory_the_batches_are_the_same(faces, workers, capsys):
    cached = epoch(FaceLoader(faces, SMALL, 16, shuffle=True), 1)
    assert capsys.readouterr().err == ""
    uncached = epoch(FaceLoader(faces, SMALL, 16, shuffle=True, workers=workers, cache_bytes=1000), 1)
    assert same(cached, uncached)
    note = capsys.readouterr().err
    assert "45 faces do not fit" in note and f"{workers} workers" in note and note.count("\n") == 1


def test_workers_of_a_spawning_system_give_the_same_batches(faces, monkeypatch):
    """Windows and macOS start processes anew, so what the workers need has to travel."""
    cached = epoch(FaceLoader(faces, SMALL, 16, shuffle=True), 1)
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        loader = FaceLoader(pickle.loads(pickle.dumps(faces)), SMALL, 16, shuffle=True, workers=2, cache_bytes=1000)
        assert same(cached, epoch(loader, 1))
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_pictures_of_different_sizes_are_cached_at_the_image_size(tmp_path):
    def dataset(check):
        return open_dataset(tmp_path, check)

    rafdb(tmp_path, sizes=((100, 100), (120, 90), (40, 64)))
    transform = EvaluationTransform(64, 32)
    checked = list(FaceLoader(dataset(True).train, transform, 8))
    unchecked = list(FaceLoader(dataset(False).train, transform, 8))
    uncached = list(FaceLoader(dataset(False).train, transform, 8, cache_bytes=1000, workers=2))
    assert same(checked, unchecked) and same(checked, uncached)
    train = dataset(True).train
    assert train[1][0].shape == (3, 120, 90)
    assert torch.equal(checked[0].images[1], transform(train[1][0][None])[0])  # resizing first changes nothing
    larger = list(FaceLoader(train, EvaluationTransform(96, 48), 8))
    assert larger[0].images.shape == (8, 3, 48, 48) and train[2][0].shape == (3, 40, 64)


def test_each_file_is_decoded_once(tmp_path, monkeypatch):
    from poster_ada.data import pictures

    read, decode = [], pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda path: read.append(path) or decode(path))
    dataset = open_dataset(rafdb(tmp_path))
    loader = FaceLoader(dataset.train.subset(range(10)), SMALL, 5, shuffle=True)
    for number in range(3):
        epoch(loader, number)
    assert len(read) == 42 == len(set(read))


def test_subsets_give_their_own_faces(faces):
    some = faces.subset([40, 3, 7])
    batch, = FaceLoader(some, EvaluationTransform(64, 32), 8)
    assert batch.labels.tolist() == faces.labels[[40, 3, 7]].tolist()
    assert torch.equal(batch.images[0], EvaluationTransform(64, 32)(faces[40][0][None])[0])
    assert faces.subset(faces.labels == 2).labels.tolist() == [2] * len(range(2, 45, 7))


def test_balanced_sampling_evens_out_the_classes(faces):
    rare = faces.subset(np.flatnonzero((faces.labels == 0) | (np.arange(45) == 1)))  # 7 of one class, 1 of another
    loader = FaceLoader(rare, EvaluationTransform(32, 32), 8, balanced=True)
    counts = sum(torch.cat([batch.labels for batch in epoch(loader, number)]).bincount(minlength=2)
                 for number in range(60))
    assert counts.sum() == 60 * 8
    assert abs(counts[1] / counts.sum() - 0.5) < 4 * 0.5 / (60 * 8) ** 0.5
    assert same(epoch(loader, 5), epoch(FaceLoader(rare, EvaluationTransform(32, 32), 8, balanced=True), 5))


def test_drop_last(faces):
    loader = FaceLoader(faces, SMALL, 16, drop_last=True)
    assert len(loader) == 2 and [len(batch.labels) for batch in loader] == [16, 16]
    with pytest.raises(InputError, match="lower the batch size"):
        FaceLoader(faces, SMALL, 46, drop_last=True)
