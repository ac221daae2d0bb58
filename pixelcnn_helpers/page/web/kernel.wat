;; The arithmetic of the sampler, four numbers at a time. kernel.js holds the same two functions in plain JavaScript.
;; All addresses and steps are bytes; all numbers are float32.
(module
  (import "page" "memory" (memory 1))

  ;; y[p, o] = start[p, o] + sum over t, i of x[p, t, i] · w[t, i, o], for `count` positions p.
  ;;
  ;; This is a convolution over one row of an image, or a matrix product where taps = 1. The outputs are taken in tiles:
  ;; 24 at a time as long as they last, then 4. The weights lie tile by tile, so that each tile reads them in order.
  (func (export "product")
    (param $x i32) (param $xStep i32) (param $count i32) (param $taps i32) (param $tapStep i32) (param $ins i32)
    (param $w i32) (param $start i32) (param $startStep i32) (param $y i32) (param $yStep i32) (param $outs i32)
    (local $p i32) (local $tile i32) (local $from i32) (local $begin i32) (local $to i32)
    (loop $tiles
      (local.set $tile (select (i32.const 24) (i32.const 4) (i32.ge_u (local.get $outs) (i32.const 24))))
      (local.set $from (local.get $x))
      (local.set $begin (local.get $start))
      (local.set $to (local.get $y))
      (local.set $p (local.get $count))
      (loop $positions
        (local.get $from) (local.get $taps) (local.get $tapStep) (local.get $ins) (local.get $w)
        (local.get $begin) (local.get $to)
        (if (param i32 i32 i32 i32 i32 i32 i32) (i32.eq (local.get $tile) (i32.const 24))
          (then (call $tile24))
          (else (call $tile4)))
        (local.set $from (i32.add (local.get $from) (local.get $xStep)))
        (local.set $begin (i32.add (local.get $begin) (local.get $startStep)))
        (local.set $to (i32.add (local.get $to) (local.get $yStep)))
        (br_if $positions (local.tee $p (i32.sub (local.get $p) (i32.const 1)))))
      ;; the next tile: its weights lie behind this one's, 4 bytes for each of taps · ins · tile
      (local.set $w (i32.add (local.get $w)
        (i32.mul (i32.mul (local.get $taps) (local.get $ins)) (i32.shl (local.get $tile) (i32.const 2)))))
      (local.set $start (i32.add (local.get $start) (i32.shl (local.get $tile) (i32.const 2))))
      (local.set $y (i32.add (local.get $y) (i32.shl (local.get $tile) (i32.const 2))))
      (br_if $tiles (local.tee $outs (i32.sub (local.get $outs) (local.get $tile))))))

  ;; 24 outputs at one position: as many sums at once as the registers of most processors have room for.
  (func $tile24
    (param $x i32) (param $taps i32) (param $tapStep i32) (param $ins i32) (param $w i32) (param $start i32)
    (param $y i32)
    (local $in i32) (local $end i32) (local $v v128)
    (local $a0 v128) (local $a1 v128) (local $a2 v128) (local $a3 v128) (local $a4 v128) (local $a5 v128)
    (local.set $a0 (v128.load (local.get $start)))
    (local.set $a1 (v128.load offset=16 (local.get $start)))
    (local.set $a2 (v128.load offset=32 (local.get $start)))
    (local.set $a3 (v128.load offset=48 (local.get $start)))
    (local.set $a4 (v128.load offset=64 (local.get $start)))
    (local.set $a5 (v128.load offset=80 (local.get $start)))
    (loop $tap
      (local.set $end (i32.add (local.tee $in (local.get $x)) (i32.shl (local.get $ins) (i32.const 2))))
      (loop $input
        (local.set $v (v128.load32_splat (local.get $in)))
        (local.set $a0 (f32x4.add (local.get $a0) (f32x4.mul (local.get $v) (v128.load (local.get $w)))))
        (local.set $a1 (f32x4.add (local.get $a1) (f32x4.mul (local.get $v) (v128.load offset=16 (local.get $w)))))
        (local.set $a2 (f32x4.add (local.get $a2) (f32x4.mul (local.get $v) (v128.load offset=32 (local.get $w)))))
        (local.set $a3 (f32x4.add (local.get $a3) (f32x4.mul (local.get $v) (v128.load offset=48 (local.get $w)))))
        (local.set $a4 (f32x4.add (local.get $a4) (f32x4.mul (local.get $v) (v128.load offset=64 (local.get $w)))))
        (local.set $a5 (f32x4.add (local.get $a5) (f32x4.mul (local.get $v) (v128.load offset=80 (local.get $w)))))
        (local.set $w (i32.add (local.get $w) (i32.const 96)))
        (br_if $input (i32.lt_u (local.tee $in (i32.add (local.get $in) (i32.const 4))) (local.get $end))))
      (local.set $x (i32.add (local.get $x) (local.get $tapStep)))
      (br_if $tap (local.tee $taps (i32.sub (local.get $taps) (i32.const 1)))))
    (v128.store (local.get $y) (local.get $a0))
    (v128.store offset=16 (local.get $y) (local.get $a1))
    (v128.store offset=32 (local.get $y) (local.get $a2))
    (v128.store offset=48 (local.get $y) (local.get $a3))
    (v128.store offset=64 (local.get $y) (local.get $a4))
    (v128.store offset=80 (local.get $y) (local.get $a5)))

  ;; 4 outputs at one position.
  (func $tile4
    (param $x i32) (param $taps i32) (param $tapStep i32) (param $ins i32) (param $w i32) (param $start i32)
    (param $y i32)
    (local $in i32) (local $end i32) (local $a v128)
    (local.set $a (v128.load (local.get $start)))
    (loop $tap
      (local.set $end (i32.add (local.tee $in (local.get $x)) (i32.shl (local.get $ins) (i32.const 2))))
      (loop $input
        (local.set $a (f32x4.add (local.get $a)
          (f32x4.mul (v128.load32_splat (local.get $in)) (v128.load (local.get $w)))))
        (local.set $w (i32.add (local.get $w) (i32.const 16)))
        (br_if $input (i32.lt_u (local.tee $in (i32.add (local.get $in) (i32.const 4))) (local.get $end))))
      (local.set $x (i32.add (local.get $x) (local.get $tapStep)))
      (br_if $tap (local.tee $taps (i32.sub (local.get $taps) (i32.const 1)))))
    (v128.store (local.get $y) (local.get $a)))

  ;; y[p, f] = tanh(z[p, f] + add[f]) · sigmoid(z[p, features + f] + add[features + f]), for `count` positions p.
  ;; With d = exp(-2 tanh's argument) and e = exp(-sigmoid's argument) this is (1 - d) / ((1 + d) (1 + e)).
  (func (export "gate")
    (param $z i32) (param $add i32) (param $count i32) (param $features i32) (param $y i32) (param $yStep i32)
    (local $half i32) (local $f i32) (local $at i32) (local $d v128) (local $one v128)
    (local.set $half (i32.shl (local.get $features) (i32.const 2)))
    (local.set $one (f32x4.splat (f32.const 1)))
    (loop $positions
      (local.set $f (i32.const 0))
      (loop $feature
        (local.set $at (i32.add (local.get $z) (local.get $f)))
        (local.set $d (call $exp (f32x4.mul (f32x4.splat (f32.const -2))
          (f32x4.add (v128.load (local.get $at)) (v128.load (i32.add (local.get $add) (local.get $f)))))))
        (v128.store (i32.add (local.get $y) (local.get $f))
          (f32x4.div
            (f32x4.sub (local.get $one) (local.get $d))
            (f32x4.mul
              (f32x4.add (local.get $one) (local.get $d))
              (f32x4.add (local.get $one) (call $exp (f32x4.neg (f32x4.add
                (v128.load (i32.add (local.get $at) (local.get $half)))
                (v128.load (i32.add (i32.add (local.get $add) (local.get $f)) (local.get $half))))))))))
        (br_if $feature (i32.lt_u (local.tee $f (i32.add (local.get $f) (i32.const 16))) (local.get $half))))
      (local.set $z (i32.add (local.get $z) (i32.shl (local.get $half) (i32.const 1))))
      (local.set $y (i32.add (local.get $y) (local.get $yStep)))
      (br_if $positions (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))

  ;; exp(x) = 2^n · exp(r): n is the integer nearest to x / ln 2, and r = x - n ln 2 is small enough for eight terms of
  ;; the series. ln 2 is subtracted in two parts, the first of which is exact in few bits. Beyond ±30 the gate no longer
  ;; changes.
  (func $exp (param $x v128) (result v128)
    (local $n v128) (local $r v128)
    (local.set $x (f32x4.max (f32x4.splat (f32.const -30)) (f32x4.min (f32x4.splat (f32.const 30)) (local.get $x))))
    (local.set $n (f32x4.nearest (f32x4.mul (local.get $x) (f32x4.splat (f32.const 1.44269504)))))
    (local.set $r (f32x4.sub
      (f32x4.sub (local.get $x) (f32x4.mul (local.get $n) (f32x4.splat (f32.const 0.693359375))))
      (f32x4.mul (local.get $n) (f32x4.splat (f32.const -0.000212194440)))))
    (f32x4.splat (f32.const 0.000198412698))  ;; 1 / 7!
    (f32x4.add (f32x4.mul (local.get $r)) (f32x4.splat (f32.const 0.00138888889)))
    (f32x4.add (f32x4.mul (local.get $r)) (f32x4.splat (f32.const 0.00833333333)))
    (f32x4.add (f32x4.mul (local.get $r)) (f32x4.splat (f32.const 0.0416666667)))
    (f32x4.add (f32x4.mul (local.get $r)) (f32x4.splat (f32.const 0.166666667)))
    (f32x4.add (f32x4.mul (local.get $r)) (f32x4.splat (f32.const 0.5)))
    (f32x4.add (f32x4.mul (local.get $r)) (f32x4.splat (f32.const 1)))
    (f32x4.add (f32x4.mul (local.get $r)) (f32x4.splat (f32.const 1)))
    (f32x4.mul (i32x4.shl
      (i32x4.add (i32x4.trunc_sat_f32x4_s (local.get $n)) (i32x4.splat (i32.const 127))) (i32.const 23)))))
