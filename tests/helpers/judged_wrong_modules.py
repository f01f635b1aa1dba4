"""Modules of x as people get them wrong; registered beside the functions."""

import math

from judged_wrong import later, wrong
from torch import nn

C, H = 12, 3


class Parts(nn.Module):
    """Three maps in and one out; what is between is each module's own."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(C, C) for _ in range(4)
        )
        self.n_heads = H

    def split(self, t):
        return t.view(*t.shape[:2], H, C // H).transpose(1, 2)

    def three(self, x):
        return [self.split(m(x)) for m in (self.q_proj, self.k_proj, self.v_proj)]

    def merged(self, out):
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def weights(self, q, k, divisor=None):
        s = q @ k.mT / math.sqrt(divisor or q.shape[-1])
        return s.masked_fill(later(q.shape[-2]), -math.inf).softmax(-1)


@wrong("divided by the root of the width")
class ScaledByItsWidth(Parts):
    def forward(self, x):
        q, k, v = self.three(x)
        return self.merged(self.weights(q, k, divisor=x.shape[-1]) @ v)


@wrong("heads split by view")
class SplitsByView(Parts):
    def split(self, t):
        return t.reshape(len(t), H, t.shape[1], C // H)

    def forward(self, x):
        q, k, v = self.three(x)
        return self.merged(self.weights(q, k) @ v)


@wrong("merged without transpose")
class MergesWithoutTranspose(Parts):
    def forward(self, x):
        q, k, v = self.three(x)
        return self.out_proj((self.weights(q, k) @ v).reshape(x.shape))


@wrong("heads split by view and merged without transpose")
class NeverTransposes(Parts):
    def split(self, t):
        return t.reshape(len(t), H, t.shape[1], C // H)

    def forward(self, x):
        q, k, v = self.three(x)
        return self.out_proj((self.weights(q, k) @ v).reshape(x.shape))


@wrong("softmax over queries")
class ModuleOverQueries(Parts):
    def forward(self, x):
        q, k, v = self.three(x)
        s = (q @ k.mT / math.sqrt(C // H)).masked_fill(later(x.shape[1]), -1e9)
        return self.merged(s.softmax(2) @ v)


@wrong("mask forgotten")
class ModuleWithoutMask(Parts):
    def forward(self, x):
        q, k, v = self.three(x)
        return self.merged((q @ k.mT / (C // H) ** 0.5).softmax(-1) @ v)


@wrong("dropout acts")
class DropsInEval(Parts):
    def forward(self, x):
        q, k, v = self.three(x)
        return self.merged(nn.functional.dropout(self.weights(q, k), 0.3) @ v)


@wrong("tiny fill")
class ModuleWithTinyFill(Parts):
    def forward(self, x):
        q, k, v = self.three(x)
        s = q @ k.mT / (C // H) ** 0.5
        s = s.masked_fill(later(x.shape[1]), -1e-9)
        return self.merged(s.softmax(-1) @ v)
