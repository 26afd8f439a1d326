/** The digits 0 to 9 as strokes of points in 0..1. */

/** Points along an arc. `from` and `to` are in turns: 0 is to the right, 0.25 is down. */
function arc(x, y, width, height, from, to, count = 14) {
  return Array.from({ length: count + 1 }, (_, at) => {
    const angle = 2 * Math.PI * (from + ((to - from) * at) / count);
    return [x + width * Math.cos(angle), y + height * Math.sin(angle)];
  });
}

function line([x, y], [toX, toY], count = 8) {
  return Array.from({ length: count + 1 }, (_, at) => {
    const share = at / count;
    return [x + (toX - x) * share, y + (toY - y) * share];
  });
}

export const EXAMPLES = [
  [arc(0.5, 0.5, 0.19, 0.29, -0.25, 0.75, 24)],
  [line([0.55, 0.2], [0.46, 0.8], 14)],
  [
    [
      ...arc(0.49, 0.34, 0.17, 0.14, -0.5, 0.1),
      ...line([0.6, 0.45], [0.31, 0.77]),
      ...line([0.33, 0.77], [0.7, 0.75]),
    ],
  ],
  [[...arc(0.47, 0.35, 0.17, 0.14, -0.45, 0.22), ...arc(0.48, 0.63, 0.19, 0.15, -0.22, 0.42)]],
  [
    [...line([0.42, 0.2], [0.3, 0.53]), ...line([0.32, 0.54], [0.68, 0.52])],
    line([0.62, 0.24], [0.56, 0.82], 12),
  ],
  [
    [
      ...line([0.66, 0.22], [0.4, 0.23]),
      ...line([0.39, 0.25], [0.36, 0.44]),
      ...arc(0.47, 0.59, 0.18, 0.18, -0.32, 0.4),
    ],
  ],
  [[...arc(0.66, 0.52, 0.31, 0.34, -0.28, -0.5), ...arc(0.5, 0.64, 0.15, 0.15, -0.5, 0.5, 20)]],
  [[...line([0.31, 0.25], [0.68, 0.24]), ...line([0.67, 0.26], [0.45, 0.81], 12)]],
  [[...arc(0.5, 0.34, 0.14, 0.13, 0.25, 1.25, 18), ...arc(0.5, 0.64, 0.17, 0.16, -0.25, 0.75, 18)]],
  [[...arc(0.49, 0.37, 0.15, 0.15, 0, -1, 18), ...line([0.64, 0.39], [0.58, 0.81], 12)]],
];
