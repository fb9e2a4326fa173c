# A study of what restricting and regularising the loss does to errors and to emission delay, of recipes with small vocabularies.
# Sourced.

source "$(dirname "$0")/../../local/run.sh"
source "$root/local/study.sh"
parse_options "$@"
cd "$recipe" || exit

# study_alignment: a training for each choice; once the variables of study.sh are set.
study_alignment() {
    local exact="loss=optimized loss.gradient_tolerance=1e-3" causal="model.causal=true model.chunk_frames=[1] model.normalize=global"
    local near="loss=ar loss.left_frames=10 loss.right_frames=3" roomy="loss=ar loss.left_frames=25 loss.right_frames=3"
    begin
    learn full loss=full
    # shellcheck disable=SC2086 # words
    {
        learn optimized $exact
        learn fastemit-0.005 $exact loss.fastemit=0.005
        learn fastemit-0.02 $exact loss.fastemit=0.02
        learn penalty-0.005 $exact loss.delay_penalty=0.005
        learn penalty-0.02 $exact loss.delay_penalty=0.02
        learn ar-15-20 loss=ar loss.left_frames=15 loss.right_frames=20
        learn ar-10-15 loss=ar loss.left_frames=10 loss.right_frames=15
        learn ar-25-3 $roomy
        learn ar-10-3 $near
        learn ar-5-10 loss=ar loss.left_frames=5 loss.right_frames=10
        learn pruned loss=pruned
        learn pruned-alignment loss=pruned loss.bounds=alignment
        learn causal-optimized $exact $causal
        learn causal-ar-10-3 $near $causal
        learn causal-ar-25-3 $roomy $causal
        learn causal-ar-25-3-fastemit-0.02 $roomy $causal loss.fastemit=0.02
        learn causal-ar-25-3-fastemit-0.05 $roomy $causal loss.fastemit=0.05
        learn causal-ar-25-3-penalty-0.005 $roomy $causal loss.delay_penalty=0.005
        learn causal-ar-25-3-penalty-0.02 $roomy $causal loss.delay_penalty=0.02
        learn causal-regular-optimized $exact $causal loss.topology=regular
        learn causal-regular-ar-10-3 $near $causal loss.topology=regular
    }
    tell --against optimized --picture "$exp/picture.png"
}
