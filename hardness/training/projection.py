"""An encoder with a projection head, as contrastive objectives train it."""

from jaxtyping import Float
from torch import Tensor, nn

from hardness.models.networks import Network


class Projected(nn.Module):
    """The encoder with a projection head; the classifier's head is dropped."""

    def __init__(self, network: Network, width: int) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.projector = nn.Sequential(
            nn.Linear(network.width, network.width, bias=False),
            nn.BatchNorm1d(network.width),
            nn.ReLU(),
            nn.Linear(network.width, width),
        )

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Projections ``[batch, width]``."""
        return self.projector(self.encoder(x))

    def hidden_and_projected(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> tuple[Tensor, Tensor]:
        """Input and output of the last layer."""
        hidden = self.projector[:-1](self.encoder(x))
        return hidden, self.projector[-1](hidden)
