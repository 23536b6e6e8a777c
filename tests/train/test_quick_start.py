"""The guide's Quick Start, line by line in Python with its names."""

import numpy as np

from streamtrain import FastGRNN, FastGRNNConfig, Trainer, TrainingConfig, TrainingDataset


def synthetic(seed, n=1_000):
    """The guide's example problem: similarity, recency, popularity, success, complexity."""
    rng = np.random.default_rng(seed)
    features = rng.random((n, 5))
    similarity, success, complexity = features[:, 0], features[:, 3], features[:, 4]
    score = 0.4 * similarity + 0.3 * success + 0.3 * (1 - complexity) + rng.uniform(-0.1, 0.1, n)
    return features.tolist(), (score > 0.6).astype(float).tolist()


def test_quick_start(tmp_path):
    accuracies = []
    for seed in range(5):
        # 1. Prepare your data
        features, labels = synthetic(seed)
        dataset = TrainingDataset(features, labels)

        # 2. Normalize features
        means, stds = dataset.normalize()

        # 3. Create model
        model_config = FastGRNNConfig(input_dim=5, hidden_dim=16, output_dim=1, nu=0.8, zeta=1.2, rank=8)
        model = FastGRNN(model_config, seed=seed)

        # 4. Configure training
        training_config = TrainingConfig(
            learning_rate=0.01,
            batch_size=32,
            epochs=50,
            validation_split=0.2,
            early_stopping_patience=5,
        )

        # 5. Train
        trainer = Trainer(model_config, training_config, seed=seed)
        metrics = trainer.train(model, dataset)

        # 6. Save model
        path = tmp_path / "models" / f"fastgrnn{seed}.safetensors"
        model.save(path)

        accuracies.append(max(row.val_accuracy for row in metrics))
        # What was saved is what was trained: on the rows it was held to, it is as good as the history says.
        _, validation = dataset.split(training_config.validation_split, seed)
        decided = FastGRNN.load(path).forward_batch(validation.features[:, 0]) >= 0.5
        best = min(metrics, key=lambda row: row.val_loss)
        assert np.mean(decided == validation.labels[:, 0]) == best.val_accuracy
        assert means.shape == stds.shape == (5,)
    assert np.median(accuracies) >= 0.88, accuracies
